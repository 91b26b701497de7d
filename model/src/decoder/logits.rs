//! What becomes of logits behind the output projection?

use rayon::prelude::*;

use crate::activations::Activations;
use crate::config::ModelConfig;
use crate::lanes::{Isa, Kernel, Lane, Lanes, soft_cap};

/// Scales and caps logits as the model wants it.
pub(super) fn finish(isa: Isa, config: &ModelConfig, logits: &mut Activations) {
    let (scale, cap) = (config.scales.logits, config.soft_caps.logits);
    if scale == 1.0 && cap.is_none() {
        return;
    }
    let grain = logits.lanes().len().div_ceil(rayon::current_num_threads());
    let chunks = logits.lanes_mut().par_chunks_mut(grain.max(1));
    chunks.for_each(|lanes| isa.run(Finish { scale, cap, lanes }));
}

struct Finish<'a> {
    scale: f32,
    cap: Option<f32>,
    lanes: &'a mut [Lane],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let scale = l.splat(self.scale);
        for lane in self.lanes {
            let scaled = l.mul(l.load(lane), scale);
            let capped = match self.cap {
                Some(cap) => soft_cap(l, scaled, cap),
                None => scaled,
            };
            l.store(capped, lane);
        }
    }
}
