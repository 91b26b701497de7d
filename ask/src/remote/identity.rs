//! By which name does a server answer, and is it still the one that it was?

use std::sync::OnceLock;

use super::fault::Fault;

/// The name by which a server answers, once it has: another is another model.
#[derive(Debug)]
pub(super) struct Identity(OnceLock<String>);

impl Identity {
    /// That of a server which answered by a name, or by none.
    pub(super) fn of(name: Option<String>) -> Self {
        Self(name.map_or_else(OnceLock::new, OnceLock::from))
    }

    /// Refuses a reply by another name.
    pub(super) fn check(&self, answers: Option<&String>) -> Result<(), Fault> {
        let Some(answers) = answers else {
            return Ok(());
        };
        let known = self.0.get_or_init(|| answers.clone());
        match known == answers {
            true => Ok(()),
            false => Err(Fault::Exchanged {
                asked: known.clone(),
                answers: answers.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_is_the_one_and_no_name_is_no_other() {
        let [one, other] = ["one", "other"].map(str::to_owned);
        for identity in [Identity::of(Some(one.clone())), Identity::of(None)] {
            assert!(identity.check(None).is_ok());
            assert!(identity.check(Some(&one)).is_ok());
            let refused = identity.check(Some(&other));
            assert!(
                matches!(refused, Err(Fault::Exchanged { .. })),
                "{refused:?}"
            );
            assert!(identity.check(Some(&one)).is_ok());
        }
    }
}
