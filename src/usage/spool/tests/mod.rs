//! Records after damage, spools after the end of a process and of the power, files that are gone.

mod files;
mod power;
mod scans;
