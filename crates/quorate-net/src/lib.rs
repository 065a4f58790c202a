//! Peer sockets: a checksummed binary stream between members.
