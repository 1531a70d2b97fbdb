//! From a deployment to an order of targets.
