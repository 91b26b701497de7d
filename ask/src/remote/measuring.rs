//! How much does an answer that stands depend on each passage, by what its server says?
//!
//! The server scores the answer with all passages, then without each of some: those whose words the
//! answer shares most, for they are the likeliest to matter. Each is one request that writes nothing (of
//! SGLang two). The model is asked for it when nothing fresh waits, so a request that cannot begin, or is
//! not wanted any more, ends the whole: what it cost is told with the next call.

use perennial_model::cancel::Cancel;

use super::RemoteModel;
use super::answering::{plain, prompt_without};
use super::fault::Fault;
use super::verify;
use crate::answer::{AnswerRequest, CallProgress, Measured, Work};
use crate::leave_one_out;
use crate::lexical;
use crate::provider::Failure;

impl RemoteModel {
    /// Leaves out passages of an answer, one at a time; nothing where the server cannot tell.
    pub(super) fn measured(
        &self,
        request: &AnswerRequest<'_>,
        answer: &str,
        progress: &mut dyn CallProgress,
    ) -> Result<Option<Measured>, Failure> {
        let mut work = Work::default();
        match self.left_out(request, answer, (&mut work, progress)) {
            Ok(Some(measured)) => {
                work.cost += self.unclaimed.take();
                Ok(Some(Measured { work, ..measured }))
            }
            // Of this answer it tells nothing, now or later.
            Ok(None)
            | Err(Fault::Refused {
                status: 400 | 404 | 405 | 422,
                ..
            }) => {
                self.unclaimed.add(work.cost);
                Ok(None)
            }
            Err(fault) => {
                self.unclaimed.add(work.cost);
                let prompt = prompt_without(request, None);
                let required = self.required(&plain(request, &prompt));
                Err(fault.into_failure(required, self.n_positions))
            }
        }
    }

    fn left_out(
        &self,
        request: &AnswerRequest<'_>,
        answer: &str,
        (work, progress): (&mut Work, &mut dyn CallProgress),
    ) -> Result<Option<Measured>, Fault> {
        let passages = request.layout.passages();
        let (_, by_words) = lexical::attributed(answer, request.question, passages);
        let order = by_words.strongest(passages.len()).into_iter();
        let chosen = order.filter(|place| !passages[*place].is_superseded);
        let chosen: Vec<usize> = chosen.take(self.leaves_out).collect();
        let mut means = |place: Option<usize>, cancel: &Cancel| {
            let prompt = prompt_without(request, place);
            let read = self.scored(
                &plain(request, &prompt),
                answer,
                cancel,
                (&mut *work, &mut *progress),
            )?;
            let tokens = verify::likelihoods(answer, &read.scores);
            Ok::<_, Fault>(tokens.map(|tokens| leave_one_out::means(answer, &tokens)))
        };
        let Some(with_all) = means(None, &request.cancel)? else {
            return Ok(None);
        };
        let mut without = vec![None; passages.len()];
        for place in &chosen {
            let Some(of_place) = means(Some(*place), &request.cancel)? else {
                return Ok(None);
            };
            without[*place] = Some(of_place);
        }
        let (sub_paragraphs, dependencies) =
            leave_one_out::attributed(answer, &with_all, &without, passages);
        Ok(Some(Measured {
            sub_paragraphs,
            dependencies,
            n_calls: 1 + chosen.len(),
            work: Work::default(),
        }))
    }
}
