/* What generated code uses of <string.h>, for zig, which has none for bare metal. As builtins: the compiler knows what
 * they do, and a copy of four bytes is no call. The functions themselves are in board/memory.c. */
#ifndef TINYMBN_STRING_H
#define TINYMBN_STRING_H

#include <stddef.h>

#define memcpy __builtin_memcpy
#define memset __builtin_memset
#define memcmp __builtin_memcmp

#endif
