//! Tells a service manager that the server is ready, as `Type=notify` of systemd wants it.
//!
//! Source: `sd_notify(3)`; etcd `server/etcdmain/etcd.go`, which says it at the same moment.

use std::{
    env,
    ffi::OsStr,
    io::Result as IoResult,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Says that clients are served, if a service manager asked for it.
pub(super) fn ready() {
    let Some(name) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&name, b"READY=1") {
        tracing::warn!(%error, socket = %name.display(), "the service manager could not be told");
    }
}

fn send(name: &OsStr, message: &[u8]) -> IoResult<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the server up.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message, &address(name)?)?;
    Ok(())
}

/// A path, or after `@` a name in the abstract space.
fn address(name: &OsStr) -> IoResult<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listener: &UnixDatagram, name: &OsStr) -> String {
        send(name, b"READY=1").unwrap();
        let mut got = [0; 64];
        let len = listener.recv(&mut got).unwrap();
        String::from_utf8_lossy(&got[..len]).into_owned()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(told(&listener, path.as_os_str()), "READY=1");
        let name = format!("@quorate-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&address(name.as_ref()).unwrap()).unwrap();
        assert_eq!(told(&listener, name.as_ref()), "READY=1");
    }

    #[test]
    fn a_manager_that_is_not_there_is_an_error() {
        assert!(send("/nowhere/at/all".as_ref(), b"READY=1").is_err());
    }
}
