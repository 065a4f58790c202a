//! Who this member is, and who the others are.
//!
//! Ids are computed as etcd does for a cluster given by its initial members (etcd `server/etcdserver/api/membership`): a member's is
//! the head of the SHA-1 of its sorted peer URLs and the cluster token, the cluster's that of all sorted member ids. So they
//! are the same on every member and at every start, and those that etcd would give.
//!
//! They are written down in the data directory when it is first used ([`directory`](crate::directory)). From then on the directory
//! says who it is, whatever the configuration says: its log speaks for that member and no other, as in etcd, where the
//! `--initial-*` flags are for the first start only.

use std::collections::BTreeMap;

use anyhow::Context;
use quorate_raft::{Membership, NodeId};
use sha1::{Digest, Sha1};

use crate::ServerConfig;

/// One member as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Computed from its peer URLs and the token.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Where its peers find it.
    pub peer_urls: Vec<String>,
}

/// The cluster as configured, and this member's place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Computed from its members.
    pub cluster_id: u64,
    /// This member.
    pub me: NodeId,
    /// All of them.
    pub members: BTreeMap<NodeId, MemberConfig>,
}

impl Identity {
    /// Reads it from the configuration.
    ///
    /// # Errors
    /// Which names or URLs can't be those of members.
    pub fn of(config: &ServerConfig) -> anyhow::Result<Self> {
        let token = &config.initial_cluster_token;
        let mut members = BTreeMap::new();
        let mut me = None;
        for (name, peer_urls) in &config.initial_cluster {
            let mut words = peer_urls.iter().chain([name]);
            if let Some(word) = words.find(|word| word.chars().any(char::is_control)) {
                anyhow::bail!("{word:?} of member {name:?} holds a control character");
            }
            let id = member_id(peer_urls, token);
            let member = MemberConfig { id, name: name.clone(), peer_urls: peer_urls.clone() };
            if let Some(other) = members.insert(id, member) {
                anyhow::bail!("members {:?} and {name:?} have the same peer URLs", other.name);
            }
            if *name == config.name {
                me = Some(id);
            }
        }
        let me = me.with_context(|| {
            let names: Vec<_> = config.initial_cluster.keys().collect();
            format!("member {:?} is not in the initial cluster {names:?}", config.name)
        })?;
        Ok(Self { cluster_id: cluster_id(members.keys().copied()), me, members })
    }

    /// The members as the Raft core takes them.
    pub fn membership(&self) -> Membership {
        Membership::of_voters(self.members.keys().copied())
    }

    /// Where the others listen, `host:port`.
    pub fn peer_addresses(&self) -> anyhow::Result<BTreeMap<NodeId, String>> {
        let others = self.members.values().filter(|member| member.id != self.me);
        let address = |member: &MemberConfig| {
            let url = member
                .peer_urls
                .first()
                .with_context(|| format!("member {:?} has no peer URL", member.name))?;
            let address = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            Ok((member.id, address.trim_end_matches('/').to_owned()))
        };
        others.map(address).collect()
    }
}

/// A member's id.
fn member_id(peer_urls: &[String], token: &str) -> NodeId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    NodeId(head(&hash.finalize()))
}

/// The cluster's id, of its members' in order.
fn cluster_id(members: impl Iterator<Item = NodeId>) -> u64 {
    let mut hash = Sha1::new();
    members.for_each(|member| hash.update(member.0.to_be_bytes()));
    head(&hash.finalize())
}

fn head(digest: &[u8]) -> u64 {
    digest.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str], me: &str) -> ServerConfig {
        let port = |name: &&str| 2380 + u16::from(name.as_bytes()[0]);
        let cluster = names
            .iter()
            .map(|name| ((*name).to_owned(), vec![format!("http://localhost:{}", port(name))]));
        ServerConfig {
            name: me.to_owned(),
            initial_cluster: cluster.collect(),
            ..ServerConfig::default()
        }
    }

    /// What etcd 3.7.2 tells of itself when it is started without any flag.
    #[test]
    fn ids_are_those_of_etcd() {
        let identity = Identity::of(&ServerConfig::default()).unwrap();
        assert_eq!(identity.me, NodeId(0x8e9e_05c5_2164_694d));
        assert_eq!(identity.cluster_id, 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn peers_are_found_by_their_urls() {
        let identity = Identity::of(&config(&["a", "b", "c"], "b")).unwrap();
        let addresses: Vec<_> = identity.peer_addresses().unwrap().into_values().collect();
        assert_eq!(addresses.len(), 2);
        assert!(addresses.contains(&"localhost:2477".to_owned()), "{addresses:?}");
    }

    #[test]
    fn a_stranger_and_a_double_are_refused() {
        assert!(Identity::of(&config(&["a"], "b")).is_err());
        let mut double = config(&["a", "b"], "a");
        let urls = double.initial_cluster["a"].clone();
        double.initial_cluster.insert("b".into(), urls);
        assert!(Identity::of(&double).is_err());
    }
}
