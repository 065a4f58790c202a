//! Whatever happens in a run, every member's flight recording is played again and agrees with the live run.

use quorate_flight::{Recording, Scene, replay};
use quorate_node::Node;

use crate::world::GROUP;

/// Plays the recording of this node.
pub(crate) fn agree(node: &Node) {
    let file = node.recording(GROUP).unwrap();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.damage, None);
    let mut end = None;
    let outcome = replay(&recording, |scene| {
        end = match scene {
            Scene::Image { core, .. } => Some(format!("{:?}", core.view())),
            Scene::Step(step) => Some(format!("{:?}", step.core.view())),
            Scene::Violation(_) => None,
        };
    });
    assert_eq!(outcome.violations, []);
    if let Some(end) = end {
        assert_eq!(end, format!("{:?}", node.view(GROUP).unwrap()));
    }
}
