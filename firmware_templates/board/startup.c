/* From reset to main(), and from a fault to a record that survives the reset. */
#include "board_memory.h"
#include "cortex_m.h"
#include "drivers.h"

/* Of the linker script; only the addresses mean something. */
extern uint32_t board_stack_bottom[], board_stack_top[];
extern uint32_t board_data_start[], board_data_end[];
extern const uint32_t board_data_load[];
extern uint32_t board_bss_start[], board_bss_end[];

int main(void);

_Noreturn void board_start(void);
void board_reset_handler(void);
void board_fault_handler(void);
_Noreturn void board_fault_record(const uint32_t *frame, uint32_t exc_return);

#define STACK_PAINT 0xC5C5C5C5u
#define FAULT_MAGIC 0x7F4A7C15u

/* ---- vectors ---- */

typedef struct {
    const uint32_t *stack_top;
    void (*handlers[15])(void); /* reset, NMI, HardFault, MemManage, BusFault, UsageFault, ... */
} vector_table;

/* Interrupts stay masked for ever, so the table ends with SysTick. 128 bytes is the least VTOR takes; the
 * linker script begins the image with it. */
extern const vector_table board_vectors;
__attribute__((section(".vectors"), used, aligned(128))) const vector_table board_vectors = {
    board_stack_top,
    {board_reset_handler, board_fault_handler, board_fault_handler, board_fault_handler, board_fault_handler,
     board_fault_handler, board_fault_handler, board_fault_handler, board_fault_handler, board_fault_handler,
     board_fault_handler, board_fault_handler, board_fault_handler, board_fault_handler, board_fault_handler},
};

/* ---- reset ---- */

/* In assembler, because C may use the stack and, for copies, FPU registers: both are made ready first. A
 * debugger or a boot loader that jumps here has loaded neither SP nor a stack limit, and may have used the
 * other stack. */
__attribute__((naked, noreturn, used)) void board_reset_handler(void)
{
    __asm volatile(".syntax unified\n"
                   "cpsid i\n"
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
                   "movs r0, #0\n"
                   "msr msplim, r0\n"
                   "msr control, r0\n"
                   "isb 0xF\n"
#endif
                   "ldr r0, =board_stack_top\n"
                   "msr msp, r0\n"
                   "ldr r1, =board_stack_bottom\n"
                   "ldr r2, =0xC5C5C5C5\n" /* STACK_PAINT, while nothing is on the stack */
                   "0: cmp r1, r0\n"
                   "bhs 1f\n"
                   "stmia r1!, {r2}\n"
                   "b 0b\n"
                   "1:\n"
#if BOARD_HAS_FPU
                   "ldr r0, =0xE000ED88\n" /* CPACR: full access to CP10 and CP11, which MVE needs as well */
                   "ldr r1, [r0]\n"
                   "ldr r2, =0x00F00000\n"
                   "orrs r1, r2\n"
                   "str r1, [r0]\n"
                   "dsb 0xF\n"
                   "isb 0xF\n"
#endif
                   "ldr r0, =board_start\n"
                   "bx r0\n"
                   ".ltorg\n");
}

#if BOARD_HAS_CACHES
static void data_cache_invalidate(void)
{
    REGISTER(SCB_CSSELR) = 0; /* the level 1 data cache */
    CORTEX_M_DSB();
    const uint32_t size = REGISTER(SCB_CCSIDR);
    const uint32_t last_set = (size >> 13) & 0x7FFFu;
    const uint32_t last_way = (size >> 3) & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; set++) {
        for (uint32_t way = 0; way <= last_way; way++) {
            /* 4 ways in bits 31:30, lines of 32 bytes from bit 5: DCISW in the TRMs of M7, M55 and M85. */
            REGISTER(SCB_DCISW) = (way << 30) | (set << 5);
        }
    }
    CORTEX_M_DSB();
}

#if BOARD_IS_CORTEX_M85
/* Arm's way round errata 3175626 and 3190818 of data caches before r1p1: SDEN-2236668. */
static void data_cache_write_through(void)
{
    const uint32_t cpuid = REGISTER(SCB_CPUID);
    const uint32_t variant = (cpuid >> 20) & 15u;
    const uint32_t revision = cpuid & 15u;
    if (variant == 0 || (variant == 1 && revision == 0)) {
        REGISTER(MEMSYSCTL_MSCR) |= MEMSYSCTL_MSCR_FORCEWT;
        REGISTER(ICB_ACTLR) |= BIT(16);
        CORTEX_M_DSB();
        CORTEX_M_ISB();
    }
}
#endif

/* The caches come up with undefined contents: invalidate, then enable. Armv7-M ARM B2.2.7. A data cache that is
 * on already may have what memory has not. */
static void caches_enable(void)
{
    REGISTER(SCB_ICIALLU) = 0;
    if (!(REGISTER(SCB_CCR) & SCB_CCR_DC)) {
        data_cache_invalidate();
    }
#if BOARD_IS_CORTEX_M85
    data_cache_write_through();
#endif
    CORTEX_M_DSB();
    REGISTER(SCB_CCR) |= SCB_CCR_IC | SCB_CCR_DC;
    CORTEX_M_DSB();
    CORTEX_M_ISB();
}
#endif

_Noreturn void board_start(void)
{
#if BOARD_HAS_VTOR
    REGISTER(SCB_VTOR) = (uint32_t)(uintptr_t)&board_vectors;
#endif
#if BOARD_IS_MAINLINE
    /* Not escalated at once, so that a fault while a fault saves its frame still gets through. */
    REGISTER(SCB_SHCSR) |= SCB_SHCSR_MEMFAULTENA | SCB_SHCSR_BUSFAULTENA | SCB_SHCSR_USGFAULTENA;
#endif
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
    __asm volatile("msr msplim, %0" ::"r"(board_stack_bottom));
#endif
#if BOARD_HAS_LOB
    /* Low-overhead loops, and the branch prediction that a Cortex-M85 starts without: Armv8.1-M ARM, CCR. */
    REGISTER(SCB_CCR) |= SCB_CCR_LOB | SCB_CCR_BP;
#endif
    CORTEX_M_DSB();
    CORTEX_M_ISB();
#if BOARD_HAS_CACHES
    caches_enable();
#endif
    memcpy(board_data_start, board_data_load,
           (size_t)((uintptr_t)board_data_end - (uintptr_t)board_data_start));
    memset(board_bss_start, 0, (size_t)((uintptr_t)board_bss_end - (uintptr_t)board_bss_start));
    (void)main();
    board_reset();
}

#if BOARD_RESTARTS
/* A reset of the chip would take the image with it, which lies in RAM: see reset in board.toml. From a fault the
 * way back to the beginning is that of an exception: a frame with the reset handler in it, on the empty stack. */
__attribute__((naked, noreturn)) static void restart(void)
{
    __asm volatile(".syntax unified\n"
                   "mrs r0, ipsr\n"
                   "cbz r0, 0f\n"
                   "ldr r0, =board_stack_top - 32\n"
                   "ldr r1, =board_reset_handler\n"
                   "bic r1, r1, #1\n"
                   "str r1, [r0, #24]\n"
                   "ldr r1, =0x01000000\n" /* xPSR: Thumb */
                   "str r1, [r0, #28]\n"
                   "msr msp, r0\n"
                   "ldr r0, =0xFFFFFFF9\n" /* EXC_RETURN: thread mode, main stack, no floats */
                   "bx r0\n"
                   "0: ldr r0, =board_reset_handler\n"
                   "bx r0\n"
                   ".ltorg\n");
}

_Noreturn void board_reset(void)
{
    __asm volatile("cpsid i" ::: "memory");
    REGISTER(FPU_FPCCR) &= ~FPU_FPCCR_LSPACT; /* nothing of before is to be saved later */
    CORTEX_M_DSB();
    CORTEX_M_ISB();
    restart();
}
#else
_Noreturn void board_reset(void)
{
    CORTEX_M_DSB();
    REGISTER(SCB_AIRCR) = SCB_AIRCR_KEY | SCB_AIRCR_SYSRESETREQ;
    CORTEX_M_DSB();
    for (;;) { /* the reset comes within some cycles */
    }
}
#endif

/* ---- stack ---- */

uint32_t board_stack_bytes(void)
{
    return (uint32_t)((uintptr_t)board_stack_top - (uintptr_t)board_stack_bottom);
}

uint32_t board_stack_used(void)
{
    const volatile uint32_t *word = board_stack_bottom;
    while ((uintptr_t)word < (uintptr_t)board_stack_top && *word == STACK_PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)board_stack_top - (uintptr_t)word);
}

/* ---- faults ---- */

/* Neither copied nor cleared at start. Begins a cache line, for it is cleaned before the reset. */
static struct {
    uint32_t magic;
    uint32_t checksum;
    board_fault fault;
} record __attribute__((section(".noinit.record"), aligned(32)));

/* The stack may be what is broken, so the handler has its own. */
#define FAULT_STACK_BYTES 256
__attribute__((section(".noinit.stack"), aligned(8), used)) uint32_t board_fault_stack[FAULT_STACK_BYTES / 4];

static uint32_t record_checksum(void)
{
    const uint32_t *word = (const uint32_t *)(const void *)&record.fault;
    uint32_t sum = FAULT_MAGIC;
    for (uint32_t i = 0; i < sizeof(record.fault) / sizeof(uint32_t); i++) {
        sum = (sum << 5 | sum >> 27) ^ word[i];
    }
    return sum;
}

const board_fault *board_fault_read(void)
{
    return record.magic == FAULT_MAGIC && record.checksum == record_checksum() ? &record.fault : NULL;
}

void board_fault_clear(void)
{
    record.magic = 0;
}

/* r0: what was stacked; r1: EXC_RETURN. Then a stack that is sound, and no limit to it. */
__attribute__((naked, noreturn, used)) void board_fault_handler(void)
{
    __asm volatile(".syntax unified\n"
                   "mrs r0, msp\n"
                   "mov r1, lr\n"
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
                   "movs r2, #0\n"
                   "msr msplim, r2\n"
#endif
                   "ldr r2, =board_fault_stack + 256\n"
                   "msr msp, r2\n"
                   "ldr r2, =board_fault_record\n"
                   "bx r2\n"
                   ".ltorg\n");
}

_Noreturn void board_fault_record(const uint32_t *frame, uint32_t exc_return)
{
    const uintptr_t sp = (uintptr_t)frame;
    /* r0-r3, r12, lr, pc, psr; not there where the stack had no room for them. */
    const bool stacked = sp >= (uintptr_t)board_stack_bottom && sp + 32 <= (uintptr_t)board_stack_top;
    const uint32_t before = board_fault_read() != NULL ? record.fault.count : 0;
    record.fault.count = before + 1;
    record.fault.pc = stacked ? frame[6] : 0;
    record.fault.lr = stacked ? frame[5] : exc_return;
    record.fault.psr = stacked ? frame[7] : 0;
    record.fault.sp = (uint32_t)sp;
#if BOARD_IS_MAINLINE
    record.fault.cfsr = REGISTER(SCB_CFSR);
    record.fault.hfsr = REGISTER(SCB_HFSR);
    record.fault.mmfar = REGISTER(SCB_MMFAR);
    record.fault.bfar = REGISTER(SCB_BFAR);
#else
    record.fault.cfsr = record.fault.hfsr = record.fault.mmfar = record.fault.bfar = 0;
#endif
    record.checksum = record_checksum();
    record.magic = FAULT_MAGIC;
#if BOARD_HAS_CACHES
    for (uintptr_t line = (uintptr_t)&record; line < (uintptr_t)(&record + 1); line += 32) {
        REGISTER(SCB_DCCMVAC) = (uint32_t)line; /* a reset drops what is still in the cache */
    }
#endif
    board_reset();
}
