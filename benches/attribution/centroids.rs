//! Which of some kinds is a sample nearest to?
//!
//! A sample is blocks of numbers (keys or values of a layer). In each block what all training samples have in common is
//! taken off, and lengths are made one; a kind's centroid is the mean of its training samples. Nearest is the centroid with
//! the largest sum of inner products over all blocks: so no layer outweighs another because its numbers are larger.

/// Numbers of one fragment, by block.
pub type Blocks = Vec<Vec<f32>>;

/// What kinds look like.
pub struct Centroids {
    /// What all samples have in common.
    common: Blocks,
    /// By kind.
    kinds: Vec<Blocks>,
}

impl Centroids {
    /// Of samples, each with its kind.
    pub fn of(samples: &[(usize, &Blocks)], n_kinds: usize) -> Self {
        let all: Vec<&Blocks> = samples.iter().map(|(_, sample)| *sample).collect();
        let mut centroids = Self {
            common: mean(&all),
            kinds: Vec::new(),
        };
        for kind in 0..n_kinds {
            let own = samples.iter().filter(|(of, _)| *of == kind);
            let own: Vec<Blocks> = own
                .map(|(_, sample)| centroids.directions(sample))
                .collect();
            let own: Vec<&Blocks> = own.iter().collect();
            centroids.kinds.push(mean(&own));
        }
        centroids
    }

    /// The kind that a sample is nearest to.
    pub fn nearest(&self, sample: &Blocks) -> usize {
        let sample = self.directions(sample);
        let likeness = |kind: &Blocks| -> f32 {
            let pairs = kind.iter().zip(&sample);
            pairs.map(|(a, b)| dot(a, b)).sum()
        };
        let likenesses: Vec<f32> = self.kinds.iter().map(likeness).collect();
        let best = (0..likenesses.len()).max_by(|a, b| likenesses[*a].total_cmp(&likenesses[*b]));
        best.unwrap_or_default()
    }

    fn directions(&self, sample: &Blocks) -> Blocks {
        let blocks = sample.iter().zip(&self.common);
        blocks
            .map(|(block, common)| {
                let mut block: Vec<f32> = block.iter().zip(common).map(|(x, y)| x - y).collect();
                let length = dot(&block, &block).sqrt().max(f32::MIN_POSITIVE);
                block.iter_mut().for_each(|x| *x /= length);
                block
            })
            .collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean(samples: &[&Blocks]) -> Blocks {
    let mut sums: Blocks = samples
        .first()
        .map(|first| (*first).clone())
        .unwrap_or_default();
    for sample in samples.iter().skip(1) {
        for (sums, block) in sums.iter_mut().zip(*sample) {
            sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
        }
    }
    let n = samples.len().max(1) as f32;
    sums.iter_mut().flatten().for_each(|sum| *sum /= n);
    sums
}
