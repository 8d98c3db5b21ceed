"""Rules of a plant file: records out of the log, one engine for each rule, its steps, replays."""
