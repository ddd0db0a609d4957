# Completion of dmedia-transfer for fish: the program itself says what can follow, so this never falls behind it.
_DMEDIA_TRANSFER_COMPLETE=fish_source dmedia-transfer | source
