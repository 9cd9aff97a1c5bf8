"""Path statistics and their sketches: frames and arrays in, frames out. Pure; knows no storage and no clock."""
