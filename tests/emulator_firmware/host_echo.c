/* The smallest program that answers as a board does; 'x' makes a sanitizer report it, 'q' ends it. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    static int values[4];
    unsigned char byte;
    if (write(1, "hello\n", 6) != 6) {
        return 1;
    }
    while (read(0, &byte, 1) == 1) {
        if (byte == 'x') {
            volatile int index = 0x7FFFFFFF;
            values[0] = index + 1;
        } else if (byte == 'q') {
            return 3;
        }
        byte++;
        if (write(1, &byte, 1) != 1) {
            return 1;
        }
    }
    return 0;
}
