//! Is what a sink was refused refused for good, or may the same be taken later?
//!
//! This is the one place that says so. A refusal that may pass (a server that is away or has too much to do,
//! a password that is wrong by now) is tried again. One for good says that the same bytes will never be taken:
//! then [dead letters](super::DeadLetters) may take them.

/// What is refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These rows: others may be taken.
    Rows,
    /// Whatever is sent there: there is nobody to take it.
    All,
}

/// Statuses by which a receiver says that a request itself is wrong: malformed, too large, of a kind that it
/// does not take, or against its rules.
#[cfg(feature = "http")]
const WRONG_REQUEST: [u16; 4] = [400, 413, 415, 422];
/// Statuses by which a server says that nobody is there.
#[cfg(feature = "http")]
const NOBODY_THERE: [u16; 2] = [404, 410];

impl Refusal {
    /// What an HTTP status refuses for good, if it does.
    #[cfg(feature = "http")]
    pub(super) fn by_status(status: u16) -> Option<Self> {
        if WRONG_REQUEST.contains(&status) {
            Some(Self::Rows)
        } else if NOBODY_THERE.contains(&status) {
            Some(Self::All)
        } else {
            None
        }
    }

    /// What an error of a Kafka client refuses for good, if it does: a record that is too large, or that
    /// the topic's rules do not allow.
    #[cfg(feature = "kafka")]
    pub(super) fn by_kafka(error: &rdkafka::error::KafkaError) -> Option<Self> {
        use rdkafka::types::RDKafkaErrorCode as Code;
        match error.rdkafka_error_code()? {
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord => Some(Self::Rows),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "http")]
    #[test]
    fn what_may_be_mended_is_not_refused_for_good() {
        for status in [400, 413, 415, 422] {
            assert_eq!(Refusal::by_status(status), Some(Refusal::Rows), "{status}");
        }
        for status in [404, 410] {
            assert_eq!(Refusal::by_status(status), Some(Refusal::All), "{status}");
        }
        for status in [
            301, 302, 401, 403, 407, 408, 409, 425, 429, 500, 502, 503, 504,
        ] {
            assert_eq!(Refusal::by_status(status), None, "{status}");
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn a_record_that_is_too_large_is_refused_and_a_broker_that_is_away_is_waited_for() {
        use rdkafka::error::KafkaError::MessageProduction;
        use rdkafka::types::RDKafkaErrorCode as Code;
        let of = |code| Refusal::by_kafka(&MessageProduction(code));
        assert_eq!(of(Code::MessageSizeTooLarge), Some(Refusal::Rows));
        assert_eq!(of(Code::InvalidRecord), Some(Refusal::Rows));
        for passing in [
            Code::MessageTimedOut,
            Code::BrokerTransportFailure,
            Code::QueueFull,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
        ] {
            assert_eq!(of(passing), None, "{passing:?}");
        }
    }
}
