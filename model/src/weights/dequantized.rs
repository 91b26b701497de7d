//! A checkpoint's weights read out as f32: what arithmetic on quantized weights is held against.

use std::collections::HashMap;

use super::{Encoding, RawTensor, TensorSource, demands};
use crate::config::ModelConfig;
use crate::quant::dequantize;

/// The tensors of a decoder, as f32 in memory: four bytes a weight.
pub struct Dequantized {
    tensors: HashMap<String, ([usize; 2], Vec<u8>)>,
}

impl Dequantized {
    /// Reads all tensors that a decoder of this configuration asks `source` for.
    pub fn of(source: &dyn TensorSource, config: &ModelConfig) -> Self {
        let read = |(name, _): (String, _)| {
            let tensor = source.tensor(&name)?;
            let floats = dequantize(tensor.encoding, tensor.bytes);
            let bytes = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            Some((name, (tensor.shape, bytes)))
        };
        let tensors = demands(config).into_iter().filter_map(read).collect();
        Self { tensors }
    }
}

impl TensorSource for Dequantized {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let (shape, bytes) = self.tensors.get(name)?;
        Some(RawTensor {
            encoding: Encoding::F32,
            shape: *shape,
            bytes,
        })
    }
}
