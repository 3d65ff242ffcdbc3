//! Wiring: builds the parts and runs them; the embedding façade.
