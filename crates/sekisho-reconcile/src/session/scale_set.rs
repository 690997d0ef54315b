//! Whose a scale set is: one that was not made for this deployment is neither changed nor deleted.
//!
//! A name is unique in a runner group, and nothing on a set says who made it. So it is written down before
//! a set is made that its name was free ([`Step::Claim`]), and afterwards what its number is. Whoever finds a
//! set under a name that was claimed knows that it is his: he died, or the answer was lost, in between.

/// Everything [`decide`] may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `status.scaleSet.id`.
    pub known: Option<i64>,
    /// The name was free, and that is written down.
    pub claimed: bool,
    /// `spec.acquisition.takeOver`.
    pub take_over: bool,
    /// The set of that number, else the one of the name.
    pub found: Option<i64>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write down that the name is free.
    Claim,
    /// Make a set.
    Make,
    /// The set is ours: make it as it is to be.
    Use,
    /// The set is another's.
    Refuse {
        /// GitHub's number.
        set: i64,
    },
}

/// Decides.
pub fn decide(seen: &Observed) -> Step {
    match seen.found {
        None if seen.claimed => Step::Make,
        None => Step::Claim,
        Some(found) if seen.known == Some(found) || seen.claimed || seen.take_over => Step::Use,
        Some(set) => Step::Refuse { set },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_ours_if_we_made_it_or_were_told_to_take_it() {
        let seen = Observed { known: None, claimed: false, take_over: false, found: None };
        assert_eq!(decide(&seen), Step::Claim);
        assert_eq!(decide(&Observed { claimed: true, ..seen }), Step::Make);
        let found = Observed { found: Some(7), ..seen };
        assert_eq!(decide(&found), Step::Refuse { set: 7 });
        assert_eq!(decide(&Observed { known: Some(7), ..found }), Step::Use);
        assert_eq!(decide(&Observed { claimed: true, ..found }), Step::Use);
        assert_eq!(decide(&Observed { take_over: true, ..found }), Step::Use);
        // Ours was removed by somebody, and somebody made another.
        assert_eq!(decide(&Observed { known: Some(4), ..found }), Step::Refuse { set: 7 });
        assert_eq!(decide(&Observed { known: Some(4), ..seen }), Step::Claim);
    }
}
