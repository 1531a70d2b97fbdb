//! Prices and cost: integer nano-dollars, never floating point.

pub mod catalogue;
mod tokens;

pub use tokens::Tokens;

/// A price in nano-dollars per million tokens. `None` is priced like its base: cache reads, cache
/// writes and audio input like input, a write for one hour like one for five minutes, reasoning and
/// audio output like output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    pub cache_read: Option<u64>,
    pub cache_write_5m: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub reasoning: Option<u64>,
    pub audio_in: Option<u64>,
    pub audio_out: Option<u64>,
}

/// What `tokens` cost, in nano-dollars; `None` when no count is known.
///
/// The sum is exact and rounded once, half up. A count that nobody reported adds nothing to those
/// that are known. A cost beyond `u64::MAX` (18 billion dollars) is `u64::MAX`.
pub fn cost(price: &Price, tokens: &Tokens) -> Option<u64> {
    if tokens.is_unknown() {
        return None;
    }
    let write_5m = price.cache_write_5m.unwrap_or(price.input);
    let parts = [
        (tokens.input_uncached, price.input),
        (tokens.input_cache_read, price.cache_read.unwrap_or(price.input)),
        (tokens.input_cache_write_5m, write_5m),
        (tokens.input_cache_write_1h, price.cache_write_1h.unwrap_or(write_5m)),
        (tokens.output, price.output),
        (tokens.reasoning, price.reasoning.unwrap_or(price.output)),
        (tokens.audio_in, price.audio_in.unwrap_or(price.input)),
        (tokens.audio_out, price.audio_out.unwrap_or(price.output)),
    ];
    // A product of two `u64` fits. A sum that does not is far beyond `u64::MAX` after the division
    // too, so saturating changes no answer.
    let per_million = parts.into_iter().fold(500_000_u128, |sum, (count, price)| {
        sum.saturating_add(u128::from(count.unwrap_or(0)) * u128::from(price))
    });
    Some(u64::try_from(per_million / 1_000_000).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SONNET: Price = Price {
        input: 3_000_000_000,
        output: 15_000_000_000,
        cache_read: Some(300_000_000),
        cache_write_5m: Some(3_750_000_000),
        cache_write_1h: Some(6_000_000_000),
        reasoning: None,
        audio_in: None,
        audio_out: None,
    };

    fn output_only(output: u64) -> Tokens {
        Tokens { output: Some(output), ..Tokens::default() }
    }

    #[test]
    fn each_count_has_its_own_price() {
        let tokens = Tokens {
            input_uncached: Some(1_000),
            input_cache_read: Some(10_000),
            input_cache_write_5m: Some(100),
            input_cache_write_1h: Some(10),
            output: Some(50),
            reasoning: Some(7),
            audio_in: None,
            audio_out: None,
        };
        let expected = 1_000 * 3_000 + 10_000 * 300 + 100 * 3_750 + 10 * 6_000 + 57 * 15_000;
        assert_eq!(cost(&SONNET, &tokens), Some(expected));
    }

    #[test]
    fn missing_price_is_that_of_its_base() {
        let price = Price { input: 1_000_000, output: 10_000_000, ..Price::default() };
        let one = Some(1);
        let all = Tokens {
            input_uncached: one,
            input_cache_read: one,
            input_cache_write_5m: one,
            input_cache_write_1h: one,
            output: one,
            reasoning: one,
            audio_in: one,
            audio_out: one,
        };
        assert_eq!(cost(&price, &all), Some(5 + 3 * 10));
        let price = Price { cache_write_5m: Some(2_000_000), ..price };
        assert_eq!(cost(&price, &all), Some(3 + 2 * 2 + 3 * 10));
    }

    #[test]
    fn unknown_is_not_zero() {
        assert_eq!(cost(&SONNET, &Tokens::default()), None);
        assert_eq!(cost(&SONNET, &output_only(0)), Some(0));
        assert_eq!(cost(&Price::default(), &output_only(5)), Some(0));
    }

    #[test]
    fn half_a_nanodollar_is_rounded_up_once_over_the_sum() {
        let price = Price { input: 499_999, output: 1, ..Price::default() };
        let tokens = Tokens { input_uncached: Some(1), ..output_only(0) };
        assert_eq!(cost(&price, &tokens), Some(0));
        assert_eq!(cost(&price, &Tokens { output: Some(1), ..tokens }), Some(1));
    }

    #[test]
    fn greatest_numbers_saturate() {
        let price = Price { input: u64::MAX, output: u64::MAX, ..Price::default() };
        let most = Some(u64::MAX);
        let tokens = Tokens { input_uncached: most, audio_out: most, ..output_only(u64::MAX) };
        assert_eq!(cost(&price, &tokens), Some(u64::MAX));
    }

    /// Counts and prices of every magnitude, the greatest included.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
    }

    fn eight() -> impl Strategy<Value = [Option<u64>; 8]> {
        proptest::array::uniform8(proptest::option::of(number()))
    }

    fn tokens_of([one, two, three, four, five, six, seven, eight]: [Option<u64>; 8]) -> Tokens {
        Tokens {
            input_uncached: one,
            input_cache_read: two,
            input_cache_write_5m: three,
            input_cache_write_1h: four,
            output: five,
            reasoning: six,
            audio_in: seven,
            audio_out: eight,
        }
    }

    /// In the order of the counts. Every price is there, so that the model below needs no bases.
    fn price_of([one, two, three, four, five, six, seven, eight]: [u64; 8]) -> Price {
        Price {
            input: one,
            cache_read: Some(two),
            cache_write_5m: Some(three),
            cache_write_1h: Some(four),
            output: five,
            reasoning: Some(six),
            audio_in: Some(seven),
            audio_out: Some(eight),
        }
    }

    /// The cost without a bound: whole nano-dollars and what is left of each part, added up apart.
    fn model(prices: [u64; 8], counts: [Option<u64>; 8]) -> Option<u128> {
        counts.iter().any(Option::is_some).then(|| {
            let parts = prices.iter().zip(counts);
            let (whole, rest) = parts.fold((0, 500_000), |(whole, rest), (price, count)| {
                let part = u128::from(*price) * u128::from(count.unwrap_or(0));
                (whole + part / 1_000_000, rest + part % 1_000_000)
            });
            whole + rest / 1_000_000
        })
    }

    proptest! {
        #[test]
        fn cost_is_the_models(
            prices in proptest::array::uniform8(number()),
            counts in eight(),
        ) {
            let expected = model(prices, counts)
                .map(|exact| u64::try_from(exact).unwrap_or(u64::MAX));
            prop_assert_eq!(cost(&price_of(prices), &tokens_of(counts)), expected);
        }

        #[test]
        fn more_tokens_cost_no_less(
            prices in proptest::array::uniform8(number()),
            counts in eight(),
            index in 0..8_usize,
            more in number(),
        ) {
            let mut greater = counts;
            greater[index] = Some(counts[index].unwrap_or(0).saturating_add(more));
            let price = price_of(prices);
            prop_assert!(cost(&price, &tokens_of(greater)) >= cost(&price, &tokens_of(counts)));
        }

        #[test]
        fn parts_of_a_request_cost_what_the_whole_costs(
            prices in proptest::array::uniform8(0..1_000_000_000_000_u64),
            one in proptest::array::uniform8(0..10_000_000_u64),
            two in proptest::array::uniform8(0..10_000_000_u64),
        ) {
            let price = price_of(prices);
            let mut both = one;
            both.iter_mut().zip(two).for_each(|(sum, count)| *sum += count);
            let [one, two, both] = [one, two, both]
                .map(|counts| cost(&price, &tokens_of(counts.map(Some))).unwrap());
            prop_assert!(both.abs_diff(one + two) <= 1);
        }
    }
}
