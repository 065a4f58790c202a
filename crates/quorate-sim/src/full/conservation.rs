//! What must come back to nothing: when everything is mended and every client has gone, no member holds anything for anybody.

use std::sync::{Arc, Weak};

use quorate_engine::View;

use super::{
    member::{Member, Running},
    world::World,
};

/// A view that a member had published. Only the newest may still be there in the end.
#[derive(Debug, Default)]
pub(super) struct Views(Vec<Weak<dyn View>>);

impl Views {
    /// Notes the view that is published now.
    pub(super) fn note(&mut self, view: &Arc<dyn View>) {
        let newest = Arc::downgrade(view);
        if self.0.last().is_some_and(|known| known.ptr_eq(&newest)) {
            return;
        }
        self.0.retain(|known| known.strong_count() > 0);
        self.0.push(newest);
    }

    /// How many are pinned beside the newest.
    fn pinned(&self) -> usize {
        let alive = self.0.iter().filter(|known| known.strong_count() > 0);
        alive.count().saturating_sub(1)
    }
}

impl World {
    /// Every client goes, without a word to its member.
    pub(super) fn dismiss_clients(&mut self) {
        let revision = self.members.iter().filter_map(|one| Some(one.reader()?.revision())).max();
        let now = self.now;
        self.sessions.iter_mut().for_each(|session| session.disconnect(now, &mut self.history));
        for watcher in &mut self.watchers {
            watcher.end(revision.unwrap_or(1), &mut self.history.watches);
        }
        self.sessions.clear();
        self.watchers.clear();
        self.dawdlers.clear();
    }

    /// What somebody still holds.
    pub(super) fn held(&self) -> Option<String> {
        self.members.iter().find_map(|member| {
            let what = held_by(member)?;
            Some(format!("member {} still holds {what}", member.number))
        })
    }
}

fn held_by(member: &Member) -> Option<String> {
    let running = member.running.as_ref()?;
    let Running { handle, raft, apply, views, .. } = running;
    let beside = [("views of old states", views.pinned()), ("jobs", running.backlog.len())];
    let all = [handle.held(), raft.held(), apply.held(), beside.to_vec()].concat();
    let kept = all.into_iter().find(|(_, count)| *count > 0);
    let kept = kept.map(|(what, count)| format!("{count} {what}"));
    kept.or_else(|| {
        let files = member.disk.files();
        let names = files.iter().map(|(path, _)| path.display().to_string());
        let left = names.into_iter().find(|name| LEFTOVERS.iter().any(|end| name.ends_with(end)));
        left.map(|name| format!("the file {name}"))
    })
}

/// Files that are there only while something is under way, by the ends of their names.
const LEFTOVERS: [&str; 3] = [".incoming", ".new", ".tmp"];
