//! All members, the proxy between them, and where they keep their things. Dropping it leaves nothing behind.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    disk::SmallDisk,
    links::Links,
    member::{Held, Launch, Member},
    options::Options,
    proxy,
    session::connect,
};

/// How long a cluster may take to elect its first leader.
const READY: Duration = Duration::from_secs(30);

/// How long a member may take to say who leads.
const ASK: Duration = Duration::from_millis(300);

/// The members.
#[derive(Debug)]
pub struct Cluster {
    /// Each member.
    pub members: Vec<Member>,
    /// What goes between them.
    pub links: Arc<Links>,
    /// What they are started with.
    pub launch: Launch,
    /// The small disk that the last member lives on, where one could be made.
    pub small_disk: Option<SmallDisk>,
    home: TempDir,
    proxies: JoinSet<()>,
}

impl Cluster {
    /// Lays everything out and starts the members.
    ///
    /// # Errors
    /// Ports are taken, or the program cannot be started.
    pub async fn start(options: &Options) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("quorate-quake-").tempdir()?;
        let members: Vec<Member> = (0..options.members)
            .map(|at| {
                let first = options.port + u16::try_from(3 * at).unwrap_or(0);
                Member::new(format!("n{at}"), home.path(), [first, first + 1, first + 2])
            })
            .collect();
        let cluster = members.iter().map(|one| format!("{}=http://{}", one.name, one.advertised));
        let launch = Launch {
            binary: options.binary.clone(),
            cluster: cluster.collect::<Vec<_>>().join(","),
            arguments: arguments(options),
            library: library(),
        };
        let links = Arc::new(Links::new(options.members));
        let mut proxies = JoinSet::new();
        for (at, member) in members.iter().enumerate() {
            let listener = proxy::listen(member.advertised).await?;
            proxies.spawn(proxy::serve(listener, at, member.peer, Arc::clone(&links)));
        }
        let small_disk = match members.last() {
            Some(last) if options.wants("disk-full") => SmallDisk::mount(&last.dir),
            _ => None,
        };
        let mut cluster = Self { members, links, launch, small_disk, home, proxies };
        for member in &mut cluster.members {
            member.start(&cluster.launch, &[])?;
        }
        cluster.await_names().await?;
        Ok(cluster)
    }

    /// Ends everything, so that another cluster may have the same ports.
    pub async fn end(mut self) {
        for member in &mut self.members {
            member.kill();
        }
        self.proxies.shutdown().await;
    }

    /// Where members keep their directories and logs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Each member's client URL.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|one| format!("http://{}", one.client)).collect()
    }

    /// Waits for a leader and learns everybody's id.
    async fn await_names(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        while Instant::now() < until {
            let standing = self.standing().await;
            let ids: Vec<u64> = standing.iter().flatten().map(|one| one.id).collect();
            let leads = standing.iter().flatten().any(|one| one.leads);
            if ids.len() == self.members.len() && leads {
                self.links.name(ids);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said: Vec<String> = self.members.iter().map(Member::said).collect();
        bail!("no leader after {} s\n{}", READY.as_secs(), said.join("\n"))
    }

    /// What each member says of itself; `None` of one that says nothing.
    pub async fn standing(&self) -> Vec<Option<Standing>> {
        let mut asked = tokio::task::JoinSet::new();
        for (at, url) in self.endpoints().into_iter().enumerate() {
            asked.spawn(async move { (at, tokio::time::timeout(ASK, ask(url)).await) });
        }
        let mut standing = vec![None; self.members.len()];
        while let Some(Ok((at, answer))) = asked.join_next().await {
            standing[at] = answer.ok().and_then(Result::ok);
        }
        standing
    }

    /// Who leads, by what the newest leader says of itself.
    pub async fn leader(&self) -> Option<usize> {
        let standing = self.standing().await;
        let leaders = standing.iter().enumerate().filter_map(|(at, one)| Some((at, (*one)?)));
        leaders.filter(|(_, one)| one.leads).max_by_key(|(_, one)| one.term).map(|(at, _)| at)
    }

    /// Starts a member again.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn restart(&mut self, at: usize, variables: &[(&str, String)]) -> Result<()> {
        let launch = self.launch.clone();
        self.members[at].start(&launch, variables)
    }

    /// What each member holds of the system; nothing of one that does not run.
    pub fn held(&self) -> Vec<Held> {
        self.members.iter().map(|one| one.held().unwrap_or_default()).collect()
    }

    /// Lets a member's disk stand still, or move again.
    ///
    /// # Errors
    /// Those of the system.
    pub fn freeze(&self, at: usize, is_frozen: bool) -> Result<()> {
        let file = self.members[at].freeze_path();
        if is_frozen {
            std::fs::write(file, [])?;
        } else if file.exists() {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The output of every start of every member.
    pub fn logs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
        logs.sort();
        logs
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        self.small_disk = None;
    }
}

/// The library beside this program that makes clocks jump and disks stand still.
fn library() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name("libquake_clock.so");
    beside.exists().then_some(beside)
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its id.
    pub id: u64,
    /// Whether it leads.
    pub leads: bool,
    /// In which term.
    pub term: u64,
}

async fn ask(url: String) -> Result<Standing> {
    let status = connect(&url).await?.status().await?;
    let id = status.header().map_or(0, |header| header.member_id());
    Ok(Standing { id, leads: status.leader() == id, term: status.raft_term() })
}

/// Half of etcd's default times, and a short log, so that a run sees many elections and some snapshots.
fn arguments(options: &Options) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--heartbeat-interval=50",
        "--election-timeout=500",
        "--snapshot-count=3000",
        "--snapshot-catchup-entries=1000",
        "--log-level=info",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(options.server_arguments());
    arguments
}
