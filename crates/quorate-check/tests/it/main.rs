//! The judges are judged: by brute force, by published histories, and by histories that were broken by hand.

mod bank;
mod published;
mod small;
mod speed;
