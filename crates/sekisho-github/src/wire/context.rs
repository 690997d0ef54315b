//! Values as a job request carries them: template tokens and context data.
//!
//! Both are of `sekisho-workflow`, which makes them and evaluates them.

pub use sekisho_workflow::expr::ContextData;
pub use sekisho_workflow::token::Token;
