//! Why the gateway answered itself.
