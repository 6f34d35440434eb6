//! Shard set → global batches → this rank's token ids.
