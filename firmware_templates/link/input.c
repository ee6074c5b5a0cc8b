/* The model's input as text commands load it: see input.h. */
#include "input.h"

input_state input;
