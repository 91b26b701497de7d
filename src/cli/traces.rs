//! Does the environment ask for traces of what becomes of changes?

#[cfg(feature = "otel")]
mod sent {
    use perennial::EngineBuilder;
    use perennial::otel::{TraceSettings, Traces as Sending, UnusableSetting};

    use crate::cli::live::Live;

    /// Traces, where they are asked for. Dropped after the engine, it sends what waits.
    pub(crate) struct Traces {
        sending: Option<Sending>,
    }

    impl Traces {
        /// As the environment asks. What cannot be had is said, and nothing is sent: the program does
        /// its work without.
        pub(crate) fn of_environment(live: &Live) -> Self {
            let sending = asked_for().unwrap_or_else(|why| {
                live.say(&format!("no traces are sent: {why}"));
                None
            });
            Self { sending }
        }

        /// The engine to be, with its changes followed.
        pub(crate) fn follow(&self, builder: EngineBuilder) -> EngineBuilder {
            match &self.sending {
                Some(sending) => builder.traced(sending.tracer()),
                None => builder,
            }
        }
    }

    fn asked_for() -> Result<Option<Sending>, UnusableSetting> {
        let settings = TraceSettings::of_environment()?;
        settings
            .map(|settings| Sending::start(&settings))
            .transpose()
    }
}

#[cfg(not(feature = "otel"))]
mod sent {
    use perennial::EngineBuilder;

    use crate::cli::live::Live;

    /// Traces of a program that is built without.
    pub(crate) struct Traces;

    impl Traces {
        /// None, whatever is asked for.
        pub(crate) fn of_environment(_live: &Live) -> Self {
            Self
        }

        /// The engine to be, as it is.
        pub(crate) fn follow(&self, builder: EngineBuilder) -> EngineBuilder {
            builder
        }
    }
}

pub(crate) use sent::Traces;
