//! Who runs a source? One thread each, which ends with its handle.
//!
//! [`start`] is the only place that emits `Ended` and `Failed`, so that each running source
//! ends in exactly one of them (or in silence, once stopped), even if its code panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;

use crate::{Error, Event, Halt, Outlet, Source, SourceName, StopFlag};

/// A source on its own thread. Dropping it stops the source and waits for its thread.
#[derive(Debug)]
pub struct Running {
    name: SourceName,
    events: Receiver<Event>,
    stop: StopFlag,
    /// Present until joined.
    thread: Option<JoinHandle<()>>,
}

/// Runs a source on its own thread. At most `capacity` events wait to be received; the source
/// waits when they are as many.
///
/// # Errors
/// [`Error::Zero`] for a capacity of zero, [`Error::Thread`] if the system gives no thread.
pub fn start(source: impl Source, capacity: usize) -> Result<Running, Error> {
    if capacity == 0 {
        return Err(Error::Zero {
            name: "the capacity of a source's channel",
        });
    }
    let name = source.name().clone();
    let stop = StopFlag::new();
    let (sender, events) = crossbeam_channel::bounded(capacity);
    let outlet = Outlet::new(sender, stop.clone());
    let thread = thread::Builder::new()
        .name(format!("source {name}"))
        .spawn({
            let name = name.clone();
            move || {
                let source = Box::new(source);
                let end = match catch_unwind(AssertUnwindSafe(|| source.run(&outlet))) {
                    Ok(Ok(())) => Event::Ended,
                    Ok(Err(Halt::Failed(error))) => Event::Failed(error),
                    Ok(Err(Halt::Stopped)) => return,
                    Err(panic) => Event::Failed(Error::Panicked {
                        name: name.as_str().to_owned(),
                        message: panic_message(panic.as_ref()),
                    }),
                };
                // A failure here means that it was stopped meanwhile: nobody wants the event.
                let _ = outlet.send(end);
            }
        })
        .map_err(|source| Error::Thread {
            name: name.as_str().to_owned(),
            source,
        })?;
    Ok(Running {
        name,
        events,
        stop,
        thread: Some(thread),
    })
}

impl Running {
    /// The source's name.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Its events. Disconnected once it has ended and all were received.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// The flag that stops it, to be raised from elsewhere.
    pub fn stop_flag(&self) -> &StopFlag {
        &self.stop
    }

    /// Stops it and waits for its thread, at most about 100 ms.
    pub fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // The thread catches its source's panics, so there is nothing to learn here.
            let _ = thread.join();
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "no message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    struct Scripted(SourceName, fn(&Outlet) -> Result<(), Halt>);

    impl Source for Scripted {
        fn name(&self) -> &SourceName {
            &self.0
        }

        fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
            (self.1)(out)
        }
    }

    fn run(script: fn(&Outlet) -> Result<(), Halt>) -> Running {
        start(Scripted(SourceName::new("scripted"), script), 1).unwrap()
    }

    #[test]
    fn ends_once() {
        let running = run(|out| out.send(Event::CaughtUp));
        let events: Vec<Event> = running.events().iter().collect();
        assert!(matches!(events[..], [Event::CaughtUp, Event::Ended]));
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let running = run(|_| panic!("broken invariant {}", 7));
        let events: Vec<Event> = running.events().iter().collect();
        match &events[..] {
            [Event::Failed(Error::Panicked { message, .. })] => {
                assert_eq!(message, "broken invariant 7");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stopping_frees_a_source_that_waits_for_its_receiver() {
        let running = run(|out| {
            loop {
                out.send(Event::CaughtUp)?;
            }
        });
        thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        running.stop();
        assert!(start.elapsed() < Duration::from_millis(100));
    }

    #[test]
    fn no_capacity_is_an_error() {
        let source = Scripted(SourceName::new("s"), |_| Ok(()));
        assert!(matches!(start(source, 0), Err(Error::Zero { .. })));
    }
}
