/* A build without CUDA: there is no GPU on which a test would run the functions of one thread. */
#include "tests/cuda_host/grid_one_cuda.h"
