//! All tests of the core that need more than one of its parts, in one program.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod facts;
#[cfg(test)]
#[allow(clippy::doc_markdown, reason = "the paper is quoted as it stands")]
mod paper;
#[cfg(test)]
mod random;
#[cfg(test)]
mod script;
#[cfg(test)]
mod solo;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod total;
