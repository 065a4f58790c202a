//! Stands between members: each advertised peer address is a listener here, which carries every connection on to the member itself.
//!
//! Who dials is read from the first frame (`quorate-net`, `handshake.rs`), so each direction of each pair has a rule of its own.
//! Bytes are carried on as they are. What waits inside is bounded: [`PIECES_MAX`] pieces of [`PIECE_BYTES`] a direction.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use quorate_net::{
    Lane,
    frame::Receiver,
    handshake::{HANDSHAKE_BYTES_MAX, Hello},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::links::{Cut, Links, Rule};

const PIECE_BYTES: usize = 16 << 10;
const PIECES_MAX: usize = 32;

const OPENING_WAIT: Duration = Duration::from_secs(3);

/// Listens at `at`.
///
/// # Errors
/// The address is taken.
pub async fn listen(at: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("listen on {at} between members"))
}

/// Carries every connection on to the member `to`, who listens at `real`; all of them end with this.
pub async fn serve(listener: TcpListener, to: usize, real: SocketAddr, links: Arc<Links>) {
    let mut carried = JoinSet::new();
    while let Ok((dialler, _)) = listener.accept().await {
        let links = Arc::clone(&links);
        carried.spawn(async move {
            // A connection that ends ends; the members dial again.
            let _ = carry(dialler, to, real, links).await;
        });
        while carried.try_join_next().is_some() {}
    }
}

async fn carry(
    mut dialler: TcpStream,
    to: usize,
    real: SocketAddr,
    links: Arc<Links>,
) -> io::Result<()> {
    let (hello, opening) = tokio::time::timeout(OPENING_WAIT, hear_hello(&mut dialler)).await??;
    let (sender, bulk) = (hello.from.0, hello.lane == Lane::Bulk);
    let away = Direction::new(&links, Party::Id(sender), Party::Place(to), bulk);
    let back = Direction::new(&links, Party::Place(to), Party::Id(sender), bulk);
    away.gate().open().await?;
    let member = TcpStream::connect(real).await?;
    dialler.set_nodelay(true)?;
    member.set_nodelay(true)?;
    let (from_dialler, to_dialler) = dialler.into_split();
    let (from_member, to_member) = member.into_split();
    tokio::select! {
        ended = pump(from_dialler, to_member, away, opening) => ended,
        ended = pump(from_member, to_dialler, back, Vec::new()) => ended,
    }
}

/// What the dialling side says first, and all bytes that came with it.
async fn hear_hello(dialler: &mut TcpStream) -> io::Result<(Hello, Vec<u8>)> {
    let mut receiver = Receiver::new(HANDSHAKE_BYTES_MAX);
    let mut opening = Vec::new();
    loop {
        let room = receiver.room();
        let count = dialler.read(room).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        opening.extend_from_slice(&room[..count]);
        receiver.received(count);
        if let Some(frame) = receiver.next_frame().map_err(io::Error::other)? {
            return Ok((Hello::decode(&frame).map_err(io::Error::other)?, opening));
        }
    }
}

/// A member, by what is known of it.
#[derive(Clone, Copy, Debug)]
enum Party {
    Id(u64),
    Place(usize),
}

/// One direction of one connection.
#[derive(Clone, Debug)]
struct Direction {
    links: Arc<Links>,
    from: Party,
    to: Party,
    bulk: bool,
    resets: u64,
}

impl Direction {
    fn new(links: &Arc<Links>, from: Party, to: Party, bulk: bool) -> Self {
        let mut one = Self { links: Arc::clone(links), from, to, bulk, resets: 0 };
        one.resets = one.rule(&one.links.subscribe().borrow()).resets;
        one
    }

    fn place(&self, party: Party) -> Option<usize> {
        match party {
            Party::Id(id) => self.links.place(id),
            Party::Place(place) => Some(place),
        }
    }

    fn rule(&self, rules: &[Rule]) -> Rule {
        let rule = self.links.rule(rules, self.place(self.from), self.place(self.to));
        if self.bulk && rule.cut == Cut::Open { Rule { cut: rule.bulk_cut, ..rule } } else { rule }
    }

    fn takes_damage(&self) -> bool {
        self.links.takes_damage(self.place(self.from), self.place(self.to))
    }

    fn gate(&self) -> Gate {
        Gate { direction: self.clone(), rules: self.links.subscribe() }
    }
}

/// Where a direction waits for what its rule says.
#[derive(Debug)]
struct Gate {
    direction: Direction,
    rules: watch::Receiver<Vec<Rule>>,
}

impl Gate {
    fn rule(&mut self) -> Rule {
        let rules = self.rules.borrow_and_update();
        self.direction.rule(&rules)
    }

    /// Waits until something may pass; answers the rule.
    async fn open(&mut self) -> io::Result<Rule> {
        loop {
            let rule = self.rule();
            if rule.cut == Cut::Refused || rule.resets != self.direction.resets {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if rule.cut == Cut::Open {
                return Ok(rule);
            }
            self.changed().await?;
        }
    }

    /// Waits until nothing may pass any more: a stall, or the end of the connection.
    async fn closed(&mut self) -> io::Result<()> {
        loop {
            let rule = self.rule();
            if rule.cut != Cut::Open || rule.resets != self.direction.resets {
                return Ok(());
            }
            self.changed().await?;
        }
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.rules.changed().await.map_err(|_| io::ErrorKind::ConnectionReset.into())
    }
}

type Piece = (Instant, Vec<u8>);

/// Carries one direction until it ends.
async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    opening: Vec<u8>,
) -> io::Result<()> {
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    tokio::try_join!(take(from, &direction, pieces, opening), give(to, &direction, waiting))?;
    Ok(())
}

async fn take(
    mut from: OwnedReadHalf,
    direction: &Direction,
    pieces: mpsc::Sender<Piece>,
    opening: Vec<u8>,
) -> io::Result<()> {
    let mut gate = direction.gate();
    let mut piece = opening;
    loop {
        let rule = gate.open().await?;
        if !piece.is_empty() && pieces.send((Instant::now() + rule.delay, piece)).await.is_err() {
            return Ok(());
        }
        piece = Vec::new();
        let mut buffer = vec![0; PIECE_BYTES];
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            closed = gate.closed() => { closed?; continue }
        };
        if read == 0 {
            return Ok(());
        }
        buffer.truncate(read);
        if direction.takes_damage() {
            let middle = read / 2;
            buffer[middle] ^= 0x10;
        }
        piece = buffer;
    }
}

async fn give(
    mut to: OwnedWriteHalf,
    direction: &Direction,
    mut pieces: mpsc::Receiver<Piece>,
) -> io::Result<()> {
    let mut gate = direction.gate();
    while let Some((due, piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        let rule = gate.open().await?;
        if let Some(nanoseconds) =
            (piece.len() as u64 * 1_000_000_000).checked_div(rule.bytes_per_second)
        {
            tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
        }
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}
