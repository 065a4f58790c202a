//! Every gRPC method of etcd's API, and our own: its path, its kind, whether it is built.

macro_rules! methods {
    ($($service:literal { $($variant:ident $name:literal $kind:ident;)* })*) => {
        /// A method of etcd's API, of gRPC's health protocol, or our own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method {
            $($(#[doc = concat!("`", $service, "/", $name, "`")] $variant,)*)*
        }

        impl Method {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// The method at an HTTP path.
            pub(crate) fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $service, "/", $name) => Some(Self::$variant),)*)*
                    _ => None,
                }
            }

            /// Service, method and kind, as its metrics are labelled.
            fn names(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $($(Self::$variant => ($service, $name, stringify!($kind)),)*)*
                }
            }

            /// Whether `service` has any method.
            fn is_service(service: &str) -> bool {
                matches!(service, $($service)|*)
            }
        }
    };
}

methods! {
    "etcdserverpb.KV" {
        Range "Range" unary;
        Put "Put" unary;
        Txn "Txn" unary;
        DeleteRange "DeleteRange" unary;
        Compact "Compact" unary;
        RangeStream "RangeStream" server_stream;
    }
    "etcdserverpb.Watch" {
        Watch "Watch" bidi_stream;
    }
    "etcdserverpb.Lease" {
        LeaseGrant "LeaseGrant" unary;
        LeaseRevoke "LeaseRevoke" unary;
        LeaseKeepAlive "LeaseKeepAlive" bidi_stream;
        LeaseTimeToLive "LeaseTimeToLive" unary;
        LeaseLeases "LeaseLeases" unary;
    }
    "etcdserverpb.Maintenance" {
        Status "Status" unary;
        Alarm "Alarm" unary;
        Defragment "Defragment" unary;
        Hash "Hash" unary;
        HashKv "HashKV" unary;
        Snapshot "Snapshot" server_stream;
        MoveLeader "MoveLeader" unary;
        Downgrade "Downgrade" unary;
    }
    "etcdserverpb.Cluster" {
        MemberList "MemberList" unary;
        MemberAdd "MemberAdd" unary;
        MemberRemove "MemberRemove" unary;
        MemberUpdate "MemberUpdate" unary;
        MemberPromote "MemberPromote" unary;
    }
    "etcdserverpb.Auth" {
        AuthEnable "AuthEnable" unary;
        AuthDisable "AuthDisable" unary;
        AuthStatus "AuthStatus" unary;
        Authenticate "Authenticate" unary;
        UserAdd "UserAdd" unary;
        UserGet "UserGet" unary;
        UserList "UserList" unary;
        UserDelete "UserDelete" unary;
        UserChangePassword "UserChangePassword" unary;
        UserGrantRole "UserGrantRole" unary;
        UserRevokeRole "UserRevokeRole" unary;
        RoleAdd "RoleAdd" unary;
        RoleGet "RoleGet" unary;
        RoleList "RoleList" unary;
        RoleDelete "RoleDelete" unary;
        RoleGrantPermission "RoleGrantPermission" unary;
        RoleRevokePermission "RoleRevokePermission" unary;
    }
    "grpc.health.v1.Health" {
        HealthCheck "Check" unary;
        HealthList "List" unary;
        HealthWatch "Watch" server_stream;
    }
    "quorate.Inspect" {
        InspectRaft "Raft" unary;
    }
}

impl Method {
    /// The labels of its metrics.
    pub(crate) fn labels(self) -> String {
        let (service, name, kind) = self.names();
        format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
    }

    /// Whether its client sends more than one message.
    pub(crate) fn is_request_stream(self) -> bool {
        self.names().2 == "bidi_stream"
    }

    /// Whether its server sends more than one message.
    pub(crate) fn is_response_stream(self) -> bool {
        self.names().2 != "unary"
    }

    /// What a client is told of a method that is not built yet.
    pub(crate) fn not_built(self) -> String {
        let (service, name, _) = self.names();
        format!("Quorate does not implement {service}/{name} yet")
    }
}

/// What a client is told of a path that names no method, in the words of Go's server.
pub(crate) fn unknown(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.rsplit_once('/') {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if Method::is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_method_and_a_method_its_number() {
        for (at, method) in Method::ALL.iter().enumerate() {
            let (service, name, _) = method.names();
            assert_eq!(Method::from_path(&format!("/{service}/{name}")), Some(*method));
            assert_eq!(*method as usize, at);
        }
        assert_eq!(Method::from_path("/etcdserverpb.KV/range"), None);
    }

    #[test]
    fn unknown_paths_are_told_as_go_tells_them() {
        assert_eq!(
            unknown("/etcdserverpb.KV/Get"),
            "unknown method Get for service etcdserverpb.KV"
        );
        assert_eq!(unknown("/v3lockpb.Lock/Lock"), "unknown service v3lockpb.Lock");
        assert_eq!(unknown("/x"), "malformed method name: \"x\"");
    }
}
