//! What goes over the wire, and real sockets on loopback.

#[cfg(test)]
#[path = "net/messages.rs"]
mod messages;
#[cfg(test)]
#[path = "net/transport.rs"]
mod transport;
#[cfg(test)]
#[path = "net/wire.rs"]
mod wire;
