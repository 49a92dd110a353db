/* Ends a use of lanes.h, so that it can be included for another width. */
#undef LANES
#undef LANES_PASTE2
#undef LANES_PASTE
#undef LANES_NAME
#undef VEC
#undef INTS
#undef MASK
#undef LESS
#undef AT_MOST
#undef DIFFER
#undef SELECT
#undef MAX_OF
#undef MIN_OF
#undef MAGNITUDE
#undef ALL_OF
#undef MAGIC
