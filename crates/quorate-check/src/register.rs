//! The simplest store: keys that hold a value or nothing, each a register of its own.

use serde::{Deserialize, Serialize};

use crate::history;

/// What a client can ask of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Sets the value.
    Put {
        /// The register.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Reads the value.
    Get {
        /// The register.
        key: String,
    },
    /// Empties the register.
    Delete {
        /// The register.
        key: String,
    },
    /// Sets the value if it is the expected one.
    Cas {
        /// The register.
        key: String,
        /// The value it must have; `None` for an empty register.
        expected: Option<String>,
        /// Its new value.
        value: String,
    },
}

impl Request {
    /// The register that is asked.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. }
            | Self::Get { key }
            | Self::Delete { key }
            | Self::Cas { key, .. } => key,
        }
    }
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a put or a delete.
    Done,
    /// To a get.
    Value(Option<String>),
    /// To a compare-and-set: whether the value was the expected one and is set now.
    Swapped(bool),
}

/// One request to a register.
pub type Operation = history::Operation<Request, Reply>;
