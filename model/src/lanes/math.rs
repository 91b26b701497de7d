//! Functions that processors do not have, built from [`Lanes`] operations only, so that
//! they too have the same bits everywhere.

use super::{Lane, Lanes, WIDTH};

/// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, and leaves that
/// integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Below this, [`exp`] is 0: the smallest result is then a normal number.
const EXP_LOWEST: f32 = -87.0;
const EXP_HIGHEST: f32 = 88.0;

/// e^x, within 2 units in the last place on [-87, 88]; exactly 1 at 0, exactly 0 below
/// -87 and at -inf. Cephes' polynomial.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::F) -> L::F {
    let clamped = l.min(l.max(x, l.splat(EXP_LOWEST)), l.splat(EXP_HIGHEST));
    let shifted = l.fma(clamped, l.splat(std::f32::consts::LOG2_E), l.splat(ROUND));
    let n = l.sub(shifted, l.splat(ROUND));
    let r = l.fma(n, l.splat(-0.693_359_4), clamped);
    let r = l.fma(n, l.splat(2.121_944_4e-4), r);
    let mut p = l.splat(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
        1.0,
        1.0,
    ] {
        p = l.fma(p, r, l.splat(c));
    }
    let power = l.of_bits(l.add_words(l.shl(l.bits(shifted), 23), 127 << 23));
    l.keep_at_least(l.mul(p, power), x, EXP_LOWEST)
}

/// `x * sigmoid(x) * y`: the gated activation of the feed-forward layer.
#[inline(always)]
pub(crate) fn sigmoid_product<L: Lanes>(l: L, x: L::F, y: L::F) -> L::F {
    let e = exp(l, l.sub(l.splat(0.0), x));
    l.mul(l.div(x, l.add(l.splat(1.0), e)), y)
}

/// `gelu(x) * y`, by the approximation `x * (1 + tanh(u)) / 2` with `u = sqrt(2 / pi) * (x + 0.044715
/// * x^3)`, which is `x * sigmoid(2 * u)`: the gated activation of other feed-forward layers.
#[inline(always)]
pub(crate) fn gelu_product<L: Lanes>(l: L, x: L::F, y: L::F) -> L::F {
    const TWICE_ROOT: f32 = 1.595_769;
    let cubed = l.mul(l.mul(x, x), l.mul(x, l.splat(0.044_715)));
    let twice_u = l.mul(l.add(x, cubed), l.splat(TWICE_ROOT));
    let e = exp(l, l.sub(l.splat(0.0), twice_u));
    l.mul(l.div(x, l.add(l.splat(1.0), e)), y)
}

/// `cap * tanh(x / cap)`, off by less than `cap / 2^21`; 0 at 0. What is infinite or no number becomes
/// no number.
#[inline(always)]
pub(crate) fn soft_cap<L: Lanes>(l: L, x: L::F, cap: f32) -> L::F {
    let e = exp(l, l.mul(x, l.splat(2.0 / cap)));
    let tanh = l.sub(l.splat(1.0), l.div(l.splat(2.0), l.add(e, l.splat(1.0))));
    // The difference is zero, or no number: `exp` would make a number of that.
    l.add(l.mul(l.splat(cap), tanh), l.sub(x, x))
}

/// The sum of the lanes, in the order of a binary tree over halves.
#[inline(always)]
pub(crate) fn sum<L: Lanes>(l: L, x: L::F) -> f32 {
    let mut lane = Lane::ZERO;
    l.store(x, &mut lane);
    sum_lane(&lane)
}

/// The sum of sixteen registers, lane by lane, in the order of [`sum`].
#[inline(always)]
pub(crate) fn sum_of_lanes<L: Lanes>(l: L, lanes: &[Lane; WIDTH]) -> L::F {
    let mut sums = *lanes;
    let mut half = WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            let sum = l.add(l.load(&sums[i]), l.load(&sums[i + half]));
            l.store(sum, &mut sums[i]);
        }
        half /= 2;
    }
    l.load(&sums[0])
}

/// [`sum`] of a lane in memory.
#[inline(always)]
fn sum_lane(lane: &Lane) -> f32 {
    let mut v = lane.0;
    let mut half = WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            v[i] += v[i + half];
        }
        half /= 2;
    }
    v[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Portable;

    fn exp1(x: f32) -> f32 {
        let mut lane = Lane::ZERO;
        Portable.store(exp(Portable, Portable.splat(x)), &mut lane);
        lane.0[0]
    }

    #[test]
    fn exp_is_exact_where_the_softmax_needs_it_and_close_elsewhere() {
        assert_eq!(exp1(0.0).to_bits(), 1f32.to_bits());
        assert_eq!(exp1(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp1(-1e30).to_bits(), 0);
        let mut x = -86.9f32;
        while x < 87.9 {
            let want = f64::from(x).exp();
            assert!((f64::from(exp1(x)) / want - 1.0).abs() < 2.5e-7, "{x}");
            x += 0.0137;
        }
    }

    #[test]
    fn gelu_and_soft_caps_are_what_their_formulas_say() {
        type OfLanes = fn(Portable, [f32; WIDTH]) -> [f32; WIDTH];
        let first = |x: f32, f: OfLanes| f(Portable, [x; WIDTH])[0];
        let gelu = |x| first(x, |l, x| gelu_product(l, x, l.splat(2.0)));
        let capped = |x| first(x, |l, x| soft_cap(l, x, 30.0));
        let mut x = -95.0f32;
        while x < 95.0 {
            let wide = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let want = wide * (1.0 + u.tanh());
            assert!(
                (f64::from(gelu(x)) - want).abs() < 1e-6 * wide.abs().max(1.0),
                "{x}"
            );
            let want = 30.0 * (wide / 30.0).tanh();
            assert!(
                (f64::from(capped(x)) - want).abs() < 30.0 / f64::from(1 << 21),
                "{x}"
            );
            x += 0.0137;
        }
        assert_eq!((gelu(0.0), capped(0.0)), (0.0, 0.0));
        assert_eq!((capped(1e30), capped(-1e30)), (30.0, -30.0));
        assert!(capped(f32::NAN).is_nan() && capped(f32::INFINITY).is_nan());
        assert!(gelu(f32::NAN).is_nan());
    }
}
