"""Where the questions' vectors are kept and searched: one file for each kind of index, and its parts."""
