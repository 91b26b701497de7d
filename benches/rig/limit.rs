//! How fast could this machine be at best? Its peaks are measured; the least work of a forward
//! pass is counted.
//!
//! A pass takes at least as long as its multiplications and additions at their peaks (of 16-bit
//! integers for products with weights, of f32 for attention), and as reading weights and KV state
//! from memory once; the longer of the two is the limit. Nobody reaches it: softmax, norms, scales
//! and the unpacking of quantized weights count for nothing, and memory and arithmetic are taken
//! to overlap fully.

use std::hint::black_box;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial::model::config::ModelConfig;
use perennial::model::decoder::Decoder;

/// How long threads work at once for one reading of a peak.
const WINDOW: Duration = Duration::from_millis(100);
/// Readings in a row that bring no higher one, after which the highest counts.
const READINGS: usize = 4;
/// Bytes that a thread reads, more than caches hold.
const STREAM_BYTES: usize = 128 << 20;

/// Words read between two looks at the clock.
const PART_WORDS: usize = 1 << 18;

/// What so many threads do in a second at best.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// Multiplications and additions of f32.
    pub flops: f64,
    /// Multiplications and additions of 16-bit integers, or of f32 where those are quicker.
    pub products: f64,
    /// Bytes read from memory.
    pub bytes: f64,
}

impl Peaks {
    /// Measures all, for a second or two.
    pub fn measure(n_threads: usize) -> Self {
        let words = || (vec![black_box(1_u64); STREAM_BYTES / 8], 0);
        let read_on = |(words, next): &mut (Vec<u64>, usize)| {
            let part = &words[*next..*next + PART_WORDS];
            *next = (*next + PART_WORDS) % words.len();
            black_box(sum(black_box(part)));
            size_of_val(part) as u64
        };
        let flops = highest(n_threads, || (), |()| multiply_adds(20_000));
        Self {
            flops,
            products: highest(n_threads, || (), |()| integer_multiply_adds(20_000)).max(flops),
            bytes: highest(n_threads, words, read_on),
        }
    }
}

impl std::fmt::Display for Peaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            flops,
            products,
            bytes,
        } = self;
        write!(
            f,
            "{:.0} GFLOP/s of f32, {:.0} GOP/s of 16-bit integers, {:.1} GB/s read from memory",
            flops / 1e9,
            products / 1e9,
            bytes / 1e9
        )
    }
}

/// What `n_threads` threads get done in a second, all in the same window. `work` says how much
/// it did.
fn highest<T>(
    n_threads: usize,
    begin: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) -> u64 + Sync,
) -> f64 {
    let together = Barrier::new(n_threads);
    let so_far = Mutex::new(SoFar::default());
    let readings = || {
        let mut state = begin();
        loop {
            together.wait();
            let (begin, mut n) = (Instant::now(), 0);
            while begin.elapsed() < WINDOW {
                n += work(&mut state);
            }
            let rate = n as f64 / begin.elapsed().as_secs_f64();
            let locked = || so_far.lock().unwrap_or_else(PoisonError::into_inner);
            locked().total += rate;
            if together.wait().is_leader() {
                locked().end_reading();
            }
            together.wait();
            if locked().n_no_higher == READINGS {
                break;
            }
        }
    };
    std::thread::scope(|scope| (0..n_threads).for_each(|_| drop(scope.spawn(readings))));
    let so_far = so_far.into_inner();
    so_far.unwrap_or_else(PoisonError::into_inner).highest
}

/// What readings have shown.
#[derive(Default)]
struct SoFar {
    /// Of all threads in the present reading.
    total: f64,
    highest: f64,
    /// Readings since one was clearly higher than those before.
    n_no_higher: usize,
}

impl SoFar {
    fn end_reading(&mut self) {
        let total = std::mem::take(&mut self.total);
        self.n_no_higher = match total > 1.01 * self.highest {
            true => 0,
            false => self.n_no_higher + 1,
        };
        self.highest = self.highest.max(total);
    }
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 16];
    for chunk in words.as_chunks::<16>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Does `n` rounds of independent multiply-adds in registers and says how many operations
/// that was.
fn multiply_adds(n: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return unsafe { multiply_adds_avx512(n) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions.
            return unsafe { multiply_adds_avx2(n) };
        }
    }
    let mut sums = [black_box(0.0_f32); 64];
    let (a, b) = (black_box(0.999_f32), black_box(0.001_f32));
    for _ in 0..n {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    n * 64 * 2
}

/// The same of 16-bit integers: 0 where there is no instruction for it.
fn integer_multiply_adds(n: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            // SAFETY: the processor has the instructions.
            return unsafe { integer_multiply_adds_avx512(n) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            return unsafe { integer_multiply_adds_avx2(n) };
        }
    }
    black_box(n);
    0
}

/// A function that does rounds of a step on `$sums` independent registers, of `$operations`
/// operations each, and says how many operations that was.
#[cfg(target_arch = "x86_64")]
macro_rules! rounds {
    ($name:ident, $features:literal, $sums:literal, $operations:literal,
     $splat:expr, ($start:expr, $a:expr, $b:expr), $step:expr) => {
        #[target_feature(enable = $features)]
        fn $name(n: u64) -> u64 {
            use std::arch::x86_64::*;
            // Opaque one by one, or equal sums would be computed once.
            let mut sums = black_box([$splat($start); $sums]);
            let (a, b) = ($splat(black_box($a)), $splat(black_box($b)));
            for _ in 0..n {
                for sum in &mut sums {
                    *sum = $step(*sum, a, b);
                }
            }
            black_box(sums);
            n * $sums * $operations
        }
    };
}
#[cfg(target_arch = "x86_64")]
rounds!(
    multiply_adds_avx2,
    "avx2,fma",
    12,
    16,
    _mm256_set1_ps,
    (0.0, 0.999, 0.001),
    |sum, a, b| { _mm256_fmadd_ps(sum, a, b) }
);
#[cfg(target_arch = "x86_64")]
rounds!(
    multiply_adds_avx512,
    "avx512f",
    24,
    32,
    _mm512_set1_ps,
    (0.0, 0.999, 0.001),
    |sum, a, b| { _mm512_fmadd_ps(sum, a, b) }
);
#[cfg(target_arch = "x86_64")]
rounds!(
    integer_multiply_adds_avx2,
    "avx2",
    12,
    32,
    _mm256_set1_epi16,
    (3, 0, 5),
    |sum, _, b| { _mm256_add_epi32(sum, _mm256_madd_epi16(sum, b)) }
);
#[cfg(target_arch = "x86_64")]
rounds!(
    integer_multiply_adds_avx512,
    "avx512f,avx512bw,avx512vnni",
    24,
    64,
    _mm512_set1_epi16,
    (0, 3, 5),
    |sum, a, b| { _mm512_dpwssd_epi32(sum, a, b) }
);

/// The least that forward passes do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Least {
    /// Of attention.
    flops: f64,
    /// With weights.
    products: f64,
    bytes: f64,
}

impl Least {
    /// Of one pass of `n_rows` rows behind `n_before` tokens, of which `n_wanted` want logits.
    pub fn of_pass(decoder: &Decoder, n_before: usize, n_rows: usize, n_wanted: usize) -> Self {
        let c: &ModelConfig = decoder.config();
        let (d_attn, d_kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let in_layer = c.d_model * (2 * d_attn + 2 * d_kv) + 3 * c.d_model * c.d_ff;
        let in_layers = (c.n_layers * in_layer) as f64;
        let in_head = (c.d_model * c.n_vocab) as f64;
        let rows = n_rows as f64;
        let seen = rows * (n_before as f64 + (rows + 1.0) / 2.0);
        let attention = 2.0 * (c.n_layers * d_attn) as f64 * seen;
        let products = rows * in_layers + n_wanted as f64 * in_head;
        let of_head = match n_wanted {
            0 => 0.0,
            _ => in_head,
        };
        // The embedding is read by rows, but where it is the head, too.
        let embeddings = if c.tied_embeddings { 1.0 } else { 2.0 };
        let bytes_a_weight = decoder.n_weight_bytes() as f64 / (in_layers + embeddings * in_head);
        let kv = ((n_before + n_rows) * decoder.kv_bytes_per_token()) as f64;
        Self {
            flops: 2.0 * attention,
            products: 2.0 * products,
            bytes: bytes_a_weight * (in_layers + of_head) + kv,
        }
    }

    /// Of encoding tokens whose passages see next to nothing but themselves: without attention.
    #[allow(dead_code, reason = "some benchmarks encode nothing")]
    pub fn of_passages(decoder: &Decoder, n_tokens: usize) -> Self {
        let of_one = Self::of_pass(decoder, 0, 1, 0);
        let products = of_one.products * n_tokens as f64;
        Self { products, ..of_one }
    }

    /// Both, one after the other.
    pub fn and(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            products: self.products + other.products,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Seconds that no program goes below which computes in 16-bit integers and f32.
    pub fn seconds(&self, peaks: &Peaks) -> f64 {
        let arithmetic = self.flops / peaks.flops + self.products / peaks.products;
        arithmetic.max(self.bytes / peaks.bytes)
    }
}
