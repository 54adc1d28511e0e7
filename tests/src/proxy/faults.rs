//! What goes wrong with the n-th request. Pure: a function of the seed, the number and the rates.

use std::time::Duration;

use metad2a_randomness::Key;

/// How often each thing goes wrong, as probabilities in [0, 1]; what is left over goes well.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRates {
    /// The server is not asked: 500 or 503.
    pub refuse: f64,
    /// The server is not asked: the connection ends without an answer.
    pub hang_up: f64,
    /// The server did what it was asked for, and its answer is lost with the connection.
    pub lose_answer: f64,
    /// The server did what it was asked for, and the client hears 500.
    pub deny: f64,
    /// The connection ends in the middle of the answer.
    pub cut: f64,
    /// The request waits first, for a time up to `longest_delay`. Beside all others.
    pub delay: f64,
    pub longest_delay: Duration,
}

impl FaultRates {
    /// A bad day: about every fifth request goes wrong.
    pub fn rough() -> Self {
        Self {
            refuse: 0.06,
            hang_up: 0.04,
            lose_answer: 0.04,
            deny: 0.03,
            cut: 0.04,
            delay: 0.1,
            longest_delay: Duration::from_millis(200),
        }
    }

    /// Nothing is answered: an outage.
    pub fn outage() -> Self {
        Self {
            refuse: 1.0,
            hang_up: 0.0,
            lose_answer: 0.0,
            deny: 0.0,
            cut: 0.0,
            delay: 0.0,
            longest_delay: Duration::ZERO,
        }
    }

    pub(super) fn decide(&self, seed: u64, number: u64) -> Decision {
        let mut stream = Key::new(&seed.to_string(), "store faults").stream(number);
        // Always the same draws, so that one rate does not shift the others.
        let (lot, is_late, lateness, coin) =
            (stream.uniform(), stream.chance(self.delay), stream.uniform(), stream.chance(0.5));
        let delay = if is_late { self.longest_delay.mul_f64(lateness) } else { Duration::ZERO };
        let status = if coin { 500 } else { 503 };
        let kinds = [
            (self.refuse, Fault::Refuse { status }),
            (self.hang_up, Fault::HangUp),
            (self.lose_answer, Fault::LoseAnswer),
            (self.deny, Fault::Deny),
            (self.cut, Fault::Cut),
        ];
        let mut below = 0.0;
        let fault = kinds.into_iter().find(|(rate, _)| {
            below += rate;
            lot < below
        });
        Decision { delay, fault: fault.map(|(_, fault)| fault) }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) delay: Duration,
    /// `None`: it goes well.
    pub(super) fault: Option<Fault>,
}

/// See [`FaultRates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Refuse { status: u16 },
    HangUp,
    LoseAnswer,
    Deny,
    Cut,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_seed_and_a_number_say_what_goes_wrong() {
        let rates = FaultRates::rough();
        let of = |seed| (0..200).map(|number| rates.decide(seed, number)).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn faults_come_as_often_as_they_were_asked_for() {
        let rates = FaultRates::rough();
        let mut seen: BTreeMap<String, f64> = BTreeMap::new();
        for number in 0..20_000 {
            let kind = match rates.decide(7, number).fault {
                None => "none",
                Some(Fault::Refuse { .. }) => "refuse",
                Some(Fault::HangUp) => "hang up",
                Some(Fault::LoseAnswer) => "lose answer",
                Some(Fault::Deny) => "deny",
                Some(Fault::Cut) => "cut",
            };
            *seen.entry(kind.to_owned()).or_default() += 1.0 / 20_000.0;
        }
        for (kind, rate) in
            [("refuse", 0.06), ("hang up", 0.04), ("lose answer", 0.04), ("deny", 0.03), ("cut", 0.04)]
        {
            assert!((seen[kind] - rate).abs() < 0.01, "{kind}: {seen:?}");
        }
    }

    #[test]
    fn an_outage_spares_no_request() {
        let rates = FaultRates::outage();
        assert!((0..1000).all(|number| matches!(rates.decide(1, number).fault, Some(Fault::Refuse { .. }))));
    }
}
