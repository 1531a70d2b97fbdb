//! Questions about usage: each store gives the answers that the rows themselves give.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers for people to read are compared with a tolerance"
)]

mod model;
mod routes;
mod rows;
mod stores;
