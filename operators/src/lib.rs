//! Which timely operators do views need that the libraries do not have?
//!
//! [`select`] keeps what matters most to each context, [`similar`] the pairs of rows that are near each
//! other; [`call`] calls a slow function beside the dataflow, and is the only operator that does. Only
//! ids and text flow: what is called is [`perennial_ask`], and the tensors stay in [`perennial_bank`].

pub mod call;
pub mod select;
pub mod similar;
