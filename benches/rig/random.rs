//! Where does chance come from? From a seed, as in calibration.

pub use perennial::calibration::Random;
