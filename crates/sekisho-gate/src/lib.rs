//! The registry endpoint, decision, promotion.
