/* What makes RP2350's boot ROM start the image: an IMAGE_DEF in its first 4 KiB. RP2350 datasheet 5.9.5. */
#include "drivers.h"

#define START 0xFFFFDED3u
#define ITEM_IMAGE_TYPE 0x10210142u /* 0x42, one word; 0x1021: executable, secure, Arm, RP2350 */
#define ITEM_LAST 0x000001FFu       /* one word of items before it */
#define NO_OTHER_BLOCK 0u           /* a loop of one */
#define END 0xAB123579u

extern const uint32_t board_image_block[5];
__attribute__((section(".image_block"), used)) const uint32_t board_image_block[5] = {
    START, ITEM_IMAGE_TYPE, ITEM_LAST, NO_OTHER_BLOCK, END,
};
