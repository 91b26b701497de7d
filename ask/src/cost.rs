//! What does a call cost in money?
//!
//! Money is counted in whole parts, a million million of them to one unit of its currency, so that a
//! sum is exact whatever the order in which it is formed. A price per million tokens with six decimals
//! is a whole number of parts for each token.
//!
//! # Invariants
//! - No number here is a float.
//! - What is added up is in one currency. An engine refuses a model whose prices are in another one.

use std::fmt;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Parts of one unit of a currency.
const PARTS: u128 = 1_000_000_000_000;
/// Decimals that tell one part.
const N_DECIMALS: usize = 12;
/// Most digits before the point, so that no amount overflows.
const MAX_DIGITS: usize = 18;
/// Tokens that a price is for.
const TOKENS_OF_A_PRICE: u128 = 1_000_000;

/// An amount of money, of whatever currency; it is not negative.
///
/// ```
/// use perennial_ask::Money;
///
/// let price: Money = "0.150".parse()?;
/// assert_eq!(price.to_string(), "0.15");
/// # Ok::<(), String>(())
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Money(u128);

/// A currency, by its three letters (ISO 4217).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// What calls cost. Nothing costs nothing in any currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    amount: Money,
    currency: Option<Currency>,
}

/// What a model's tokens cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Parts for each token of a prompt.
    input: u128,
    /// The same of a token that the server still knew.
    cached_input: u128,
    /// The same of a token that it wrote.
    output: u128,
    currency: Currency,
}

impl Money {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// Whether it is none.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// What is left of it beside another amount; nothing where that is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount as a number, for what shows numbers and compares none.
    pub fn shown(self) -> f64 {
        self.0 as f64 / PARTS as f64
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl FromStr for Money {
    type Err = String;

    /// Reads `2`, `0.15` or `.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected an amount of money, such as 2 or 0.15".to_owned();
        let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || (whole.is_empty() && decimals.is_empty()) {
            return Err(wrong());
        }
        let (whole, decimals) = (
            whole.trim_start_matches('0'),
            decimals.trim_end_matches('0'),
        );
        if whole.len() > MAX_DIGITS || decimals.len() > N_DECIMALS {
            return Err(format!(
                "expected at most {MAX_DIGITS} digits before the point and {N_DECIMALS} behind it"
            ));
        }
        let number = |digits: &str| match digits {
            "" => Ok(0),
            digits => digits.parse::<u128>().map_err(|_| wrong()),
        };
        let decimals = format!("{decimals:0<N_DECIMALS$}");
        Ok(Self(number(whole)? * PARTS + number(&decimals)?))
    }
}

impl fmt::Display for Money {
    /// All of it, as it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / PARTS, self.0 % PARTS);
        let decimals = format!("{parts:0N_DECIMALS$}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{decimals}"),
        }
    }
}

impl TryFrom<String> for Money {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Money> for String {
    fn from(money: Money) -> Self {
        money.to_string()
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match *text.trim().to_ascii_uppercase().as_bytes() {
            [a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err("expected the three letters of a currency, such as USD".to_owned()),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.to_string()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{}", *c as char))
    }
}

impl Cost {
    /// How much it is.
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Of which currency; none where it is nothing.
    pub fn currency(&self) -> Option<Currency> {
        self.currency
    }

    /// What is left of it beside what was counted before, in the same currency.
    #[must_use]
    pub fn beyond(self, counted: Self) -> Self {
        Self {
            amount: self.amount.saturating_sub(counted.amount),
            currency: self.currency,
        }
    }

    /// The amount and its currency, of what has a price.
    pub fn told(&self) -> Option<(Money, Currency)> {
        Some((self.amount, self.currency?))
    }
}

impl AddAssign for Cost {
    /// # Panics
    /// If both are of another currency: models of one engine have prices in one.
    fn add_assign(&mut self, other: Self) {
        let Some(currency) = other.currency else {
            return;
        };
        let own = *self.currency.get_or_insert(currency);
        assert_eq!(own, currency, "costs are added up in one currency");
        self.amount += other.amount;
    }
}

impl fmt::Display for Cost {
    /// `0.0123 USD`; of what has no price, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Some(currency) => write!(f, "{} {currency}", self.amount),
            None => self.amount.fmt(f),
        }
    }
}

impl Prices {
    /// Prices of a million tokens each: of a prompt, of what the server still knew of one (as much as
    /// the rest where nothing is said), and of what is written.
    ///
    /// # Errors
    /// A price that is no whole number of parts for each token: one of more than six decimals.
    pub fn of_a_million(
        (input, cached_input, output): (Money, Option<Money>, Money),
        currency: Currency,
    ) -> Result<Self, String> {
        let of_one = |price: Money| match price.0.is_multiple_of(TOKENS_OF_A_PRICE) {
            true => Ok(price.0 / TOKENS_OF_A_PRICE),
            false => Err(format!(
                "a price of {price} for a million tokens has more than six decimals"
            )),
        };
        Ok(Self {
            input: of_one(input)?,
            cached_input: of_one(cached_input.unwrap_or(input))?,
            output: of_one(output)?,
            currency,
        })
    }

    /// The currency that they are in.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// What a call costs that read a prompt, of which the server still knew a part, and wrote.
    pub fn cost(&self, n_prompt: usize, n_cached: usize, n_written: usize) -> Cost {
        let n_cached = n_cached.min(n_prompt);
        let parts = [
            (n_prompt - n_cached, self.input),
            (n_cached, self.cached_input),
            (n_written, self.output),
        ];
        let parts = parts.map(|(n, price)| price.saturating_mul(n as u128));
        Cost {
            amount: parts.into_iter().map(Money).fold(Money::ZERO, Add::add),
            currency: Some(self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().expect(text)
    }

    fn usd() -> Currency {
        "usd".parse().expect("a currency")
    }

    fn prices(input: &str, cached: Option<&str>, output: &str) -> Prices {
        let of = (money(input), cached.map(money), money(output));
        Prices::of_a_million(of, usd()).expect("prices")
    }

    #[test]
    fn an_amount_is_written_as_it_is_read() {
        for (text, written) in [
            ("2", "2"),
            ("002.500", "2.5"),
            (".5", "0.5"),
            ("7.", "7"),
            ("0.000000000001", "0.000000000001"),
            ("999999999999999999.5", "999999999999999999.5"),
        ] {
            assert_eq!(money(text).to_string(), written);
            assert_eq!(money(written), money(text));
        }
        for text in ["", ".", "-1", "1e3", "1,5", "0.0000000000001", "one"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        assert!("1000000000000000000".parse::<Money>().is_err());
    }

    #[test]
    fn a_currency_has_three_letters() {
        assert_eq!(usd().to_string(), "USD");
        for text in ["", "US", "DOLLAR", "U5D", "€"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_server_still_knew_has_a_price_of_its_own() {
        let prices = prices("0.15", Some("0.075"), "0.60");
        let cost = prices.cost(1000, 400, 50);
        // 600 at .15, 400 at .075 and 50 at .6 for a million.
        assert_eq!(cost.to_string(), "0.00015 USD");
        assert_eq!(
            prices.cost(0, 9, 0).to_string(),
            "0 USD",
            "no more than it read"
        );
        let plain = self::prices("0.15", None, "0.60");
        assert_eq!(plain.cost(1000, 400, 50).to_string(), "0.00018 USD");
    }

    #[test]
    fn a_price_that_cannot_be_counted_exactly_is_refused() {
        let fine = (money("0.018750"), None, money("0"));
        assert!(Prices::of_a_million(fine, usd()).is_ok());
        let finer = (money("0.0000001"), None, money("0"));
        let told = Prices::of_a_million(finer, usd()).expect_err("refused");
        assert!(told.contains("0.0000001"), "{told}");
    }

    #[test]
    fn nothing_is_added_to_any_currency() {
        let mut sum = Cost::default();
        sum += Cost::default();
        assert_eq!(sum.told(), None);
        let one = prices("1", None, "1").cost(1, 0, 0);
        sum += one;
        sum += Cost::default();
        assert_eq!(sum, one);
    }

    proptest! {
        /// However calls are cut up and in whatever order, their sum is the cost of their sum.
        #[test]
        fn a_sum_is_exact_in_any_order(
            mut calls in prop::collection::vec((0usize..100_000, 0usize..100_000, 0usize..10_000), 0..40),
            input in 0u64..100_000_000,
            cached in 0u64..100_000_000,
            output in 0u64..100_000_000,
        ) {
            let of = |millionths: u64| Money(u128::from(millionths) * TOKENS_OF_A_PRICE);
            let of = (of(input), Some(of(cached)), of(output));
            let prices = Prices::of_a_million(of, usd()).expect("six decimals");
            let sum = |calls: &[(usize, usize, usize)]| {
                let mut sum = Cost::default();
                for (fresh, known, written) in calls {
                    sum += prices.cost(fresh + known, *known, *written);
                }
                sum
            };
            let there = sum(&calls);
            calls.reverse();
            prop_assert_eq!(sum(&calls), there);
            let total = calls.iter().fold((0, 0, 0), |(a, b, c), (x, y, z)| (a + x, b + y, c + z));
            let whole = prices.cost(total.0 + total.1, total.1, total.2);
            prop_assert_eq!(whole.amount(), there.amount());
            let read: Money = there.amount().to_string().parse().expect("as it is written");
            prop_assert_eq!(read, there.amount());
        }
    }
}
