//! etcd's API: gRPC services, HTTP endpoints, error codes and texts.
