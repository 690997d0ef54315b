//! All decisions at once, in a small world where everything goes wrong: see `simulation`.

mod cluster;
mod dice;
mod github;
mod good_life;
mod invariants;
mod operator;
mod operator_act;
mod simulation;
mod world;
