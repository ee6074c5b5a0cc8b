"""The virtual STM32F7 reports each planted mistake, the board's own files make none, and bytes take their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from tests.emulator_firmware import Changes, build_echo, needs_gcc
from tinymbn.board import load_board

pytest.importorskip("unicorn", reason="no unicorn")

from tinymbn.emulators.virtual_mcu.firmware_image import flash_image
from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.serial_line import _sampled
from tinymbn.emulators.virtual_stm32f7.board import build

BOARD = load_board("stm32f7")
BAUD = BOARD.baud
CONFIG, STARTUP = "board/board_config.h", "board/startup.c"
CLOCK, COUNTER = "board/clock_stm32f4_f7.c", "board/counter_dwt.c"
PINS, UART = "board/pins_stm32.c", "board/uart_stm32_v2.c"

pytestmark = needs_gcc


@contextmanager
def running(elf: Path, machine: str = "nucleo-f746zg", baud: int = BAUD) -> Iterator[tuple[VirtualMcu, serial.Serial]]:
    """The firmware on a virtual board in this process, its port open."""
    mcu, port = build(machine, BAUD)
    mcu.load(flash_image(elf, mcu.flash))
    thread = threading.Thread(target=mcu.run, daemon=True)
    with serial.Serial(port, baud, timeout=20) as line:
        thread.start()
        try:
            yield mcu, line
        finally:
            for _ in range(500):
                mcu.request_stop()
                thread.join(0.01)
                if not thread.is_alive():
                    break
            assert not thread.is_alive()


def findings_of(folder: Path, changes: Changes, *, greets: bool = True, asks: bytes = b"") -> str:
    """What is found in a firmware with changes, after it has greeted and was asked something."""
    with running(build_echo(BOARD, folder, changes)) as (mcu, line):
        if greets:
            assert line.read(6) == b"hello\n"
            if asks:
                line.write(asks)
                line.timeout = 0.5
                line.read(100)
        else:
            line.timeout = 0.3
            assert line.read(6) != b"hello\n"
        return "\n".join(mcu.all_findings())


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_echo(BOARD, tmp_path_factory.mktemp("echo"))


# What stands in a file of the board, what stands there instead, and what must be found. The chip limps on: all greet.
LIMPING = {
    "flash too slow": (CONFIG, "WAIT_STATES 7u", "WAIT_STATES 5u", "FLASH_ACR = 0x00000305: 5 wait states at HCLK 216"),
    "no over-drive": (CONFIG, "OVER_DRIVE 1", "OVER_DRIVE 0", "216 MHz; at most 180 MHz at VOS 3 without over-drive"),
    "PLL out of range": (CONFIG, "PLL_N 216u", "PLL_N 217u", "VCO 434 MHz; allowed are 100 to 432 MHz"),
    "PLL input out of range": (
        CONFIG,
        "PLL_M 8u\n#define BOARD_PLL_N 216u",
        "PLL_M 7u\n#define BOARD_PLL_N 189u",
        "VCO input 2.28571 MHz; allowed are 1 to 2 MHz",
    ),
    "APB2 too fast": (CONFIG, "APB2_DIVIDER 2u", "APB2_DIVIDER 1u", "PCLK2 216 MHz; at most 108 MHz"),
    "a low voltage": (
        CLOCK,
        "REGISTER(PWR_CR) |= PWR_CR_VOS_1;",
        "REGISTER(PWR_CR) = UINT32_C(1) << 14;",
        "HCLK 216 MHz; at most 144 MHz at VOS 1",
    ),
    "a reserved bit": (CLOCK, "= RCC_PLLCFGR_R_RESET |", "=", "RCC_PLLCFGR = 0x09003608: reserved bits 0x20000000"),
    "a rate 3 % off": (CONFIG, "UART_HZ 54000000u", "UART_HZ 52380000u", "USART3: runs at 118681 baud, the computer's"),
    "another function": (CONFIG, "TX_FUNCTION 7u", "TX_FUNCTION 8u", "PD8: AF8 in GPIOD_AFRH; expected AF7"),
    "no function": (PINS, "MODER_ALTERNATE 2u", "MODER_ALTERNATE 0u", "PD9: mode 0 in GPIOD_MODER; expected 2"),
    "a port without clock": (
        CONFIG,
        "BOARD_TX_ENABLE_BIT 3u\n#define BOARD_RX_PORT 0x40020C00u\n#define BOARD_RX_ENABLE_REGISTER 0x40023830u\n"
        "#define BOARD_RX_PIN 9u\n#define BOARD_RX_FUNCTION 7u\n#define BOARD_RX_ENABLE_BIT 3u",
        "BOARD_TX_ENABLE_BIT 2u\n#define BOARD_RX_PORT 0x40020C00u\n#define BOARD_RX_ENABLE_REGISTER 0x40023830u\n"
        "#define BOARD_RX_PIN 9u\n#define BOARD_RX_FUNCTION 7u\n#define BOARD_RX_ENABLE_BIT 2u",
        "GPIOD: used without its clock; set RCC_AHB1ENR bit 3 first",
    ),
    "no wait after the clock": (
        UART,
        "(void)REGISTER(BOARD_UART_ENABLE_REGISTER);",
        "",
        "USART3: used at once after RCC_APB1ENR bit 18",
    ),
    "a divider written late": (
        UART,
        "REGISTER(CR1) = 0;\n    REGISTER(BRR)",
        "REGISTER(CR1) = 1;\n    REGISTER(BRR)",
        "USART3_BRR = 0x000001D5: written while",
    ),
    "a cache not invalidated": (
        STARTUP,
        "REGISTER(SCB_DCISW) = (way << 30) | (set << 5);",
        "",
        "data cache enabled with 0 of 128 lines",
    ),
    "half a cache invalidated": (STARTUP, "way <= last_way", "way < 2", "data cache enabled with 64 of 128 lines"),
    "a locked counter": (COUNTER, "REGISTER(DWT_LAR) = DWT_LAR_KEY;", "", "DWT_CYCCNT = 0x00000000: written while"),
    "no trace clock": (COUNTER, "REGISTER(DCB_DEMCR) |= DCB_DEMCR_TRCENA;", "", "DWT: used before DEMCR.TRCENA"),
    "an interrupt not masked": (
        STARTUP,
        "    (void)main();",
        '    __asm volatile("cpsie i");\n    (void)main();',
        "is enabled and pending with PRIMASK clear",
    ),
}


@pytest.mark.parametrize("mistake", LIMPING)
def test_a_planted_mistake_is_found_where_a_chip_limps_on(mistake: str, tmp_path: Path) -> None:
    file, old, new, finding = LIMPING[mistake]
    # The answer takes the receiver's path, and the sleep before it.
    assert finding in findings_of(tmp_path, {file: (old, new)}, asks=b"a" if "interrupt" in mistake else b"")


def test_apb1_too_fast_is_found(tmp_path: Path) -> None:
    # The USART's clock doubles with the bus; told so, it still speaks at the right rate.
    config = "BOARD_APB1_DIVIDER 4u\n#define BOARD_APB2_DIVIDER 2u\n#define BOARD_WAIT_STATES 7u\n"
    config += "#define BOARD_OVER_DRIVE 1\n#define BOARD_UART_HZ 54000000u"
    changed = config.replace("DIVIDER 4u", "DIVIDER 2u").replace("54000000u", "108000000u")
    assert "PCLK1 108 MHz; at most 54 MHz" in findings_of(tmp_path, {CONFIG: (config, changed)})


@pytest.mark.parametrize(("hz", "off"), [("27000000u", "+100"), ("81000000u", "-33")])
def test_a_wrong_divider_is_garbage_and_found(tmp_path: Path, hz: str, off: str) -> None:
    changes = {CONFIG: ("BOARD_UART_HZ 54000000u", f"BOARD_UART_HZ {hz}")}
    assert f"the computer's port at 115200: {off}" in findings_of(tmp_path, changes, greets=False)


def test_a_usart_without_clock_is_silent_and_found(tmp_path: Path) -> None:
    changes = {UART: ("REGISTER(BOARD_UART_ENABLE_REGISTER) |= BIT(BOARD_UART_ENABLE_BIT);", "")}
    assert "USART3: used without its clock; set RCC_APB1ENR bit 18 first" in findings_of(
        tmp_path, changes, greets=False
    )


def test_the_boards_own_files_make_no_mistake(echo: Path) -> None:
    with running(echo) as (mcu, line):
        assert line.read(6) == b"hello\n"
        data = bytes(range(256)) * 16
        line.write(b"e" + data)  # the board only takes it, so it keeps up
        assert line.read(len(data)) == data
        assert mcu.all_findings() == ()


def mistake(text: str) -> Changes:
    """One that is made before anything else."""
    return {STARTUP: ("    (void)main();", f"    {text}\n    (void)main();")}


# C, and what must be found. They are no accesses that fault, so the board goes on.
PLANTED = {
    "an unknown register": ("REGISTER(0x40023894u) = 1;", "RCC: write of 0x1 to 0x40023894, where there is"),
    "a read-only register": ("REGISTER(0xE000ED00u) = 1;", "SCS_CPUID = 0x00000001: written, but it is read-only"),
    "no peripheral": ("REGISTER(0x40004400u) = 1;", "write of 0x1 to 0x40004400, where this virtual board has no"),
    "bytes of a word": ("*(volatile uint8_t *)0x40023840u = 1;", "RCC_APB1ENR = 0x00000001: write of 1 bytes"),
    "a key forgotten": ("REGISTER(0xE000ED0Cu) = 4;", "AIRCR = 0x00000004: written without its key"),
    "a table that is not aligned": ("REGISTER(0xE000ED08u) = 0x08000080u;", "114 vectors need an address that is a"),
    "a clock that is not ready": ("REGISTER(0x40023808u) = 1;", "system clock switched to HSE, which is not ready"),
    "the flash's key": ("REGISTER(0x40023C04u) = 0x45670123u;", "FLASH_KEYR = 0x45670123: written"),
    "an unaligned LDRD": (
        '__asm volatile("ldr r0, =0x20000101\\nldr r1, [r0]\\nldrd r2, r3, [r0]" ::: "r0", "r1", "r2", "r3");',
        "unaligned access to 0x20000101 by LDRD"),
    "a sleep that nothing ends": ('__asm volatile("wfi");', "WFI with no interrupt enabled that could end it"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_an_access_that_no_manual_allows_is_found(name: str, tmp_path: Path) -> None:
    text, finding = PLANTED[name]
    text = text.replace("REGISTER(", "*(volatile uint32_t *)(uintptr_t)(")
    if "sleep" in name:
        with running(build_echo(BOARD, tmp_path, mistake(text))) as (mcu, line):
            line.timeout = 0.3
            assert line.read(1) == b""
            assert finding in "\n".join(mcu.all_findings())
    else:
        assert finding in findings_of(tmp_path, mistake(text))


def test_the_fpu_before_cpacr_is_found(tmp_path: Path) -> None:
    changes = {
        STARTUP: (
            '"str r1, [r0]\\n"\n                   "dsb 0xF\\n"',
            '"nop\\n" ".fpu fpv5-sp-d16\\n" "vmov s0, r0\\n"\n                   "dsb 0xF\\n"',
        )
    }
    assert "floating-point instruction before CPACR allowed it" in findings_of(tmp_path, changes)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("*(volatile uint32_t *)(uintptr_t)0x08000000u = 1;", "fault: write of 0x1, 4 bytes, to flash at 0x08000000"),
        (
            "*(volatile uint32_t *)(uintptr_t)0xA0000000u = 2;",
            "fault: write of 0x2, 4 bytes, to 0xA0000000, where there",
        ),
        (
            "(void)*(volatile uint32_t *)(uintptr_t)0u;",
            "fault: read of 4 bytes from 0x00000000, where there is nothing",
        ),
        ("((void (*)(void))(uintptr_t)0x30000001u)();", "fault: jump to 0x30000000, where there is no code"),
        ('__asm volatile("udf #0");', "fault: instruction that a Cortex-M7 does not execute"),
    ],
)
def test_a_fault_is_found_and_reaches_the_firmwares_handler(text: str, finding: str, tmp_path: Path) -> None:
    once = f"if (board_fault_read() == NULL) {{ {text} }}"
    with running(build_echo(BOARD, tmp_path, mistake(once))) as (mcu, line):
        assert line.read(6) == b"hello\n"  # the handler has left a record, and reset the board
        assert finding in "\n".join(mcu.all_findings())


def test_a_fault_leaves_its_address_over_the_reset(echo: Path) -> None:
    with running(echo) as (_, line):
        assert line.read(6) == b"hello\n"
        line.write(b"f")
        assert line.read(4) == bytes(4)
        line.write(b"x")
        assert line.read(6) == b"hello\n"
        line.write(b"f")
        assert int.from_bytes(line.read(4), "little") == 0xA0000000


def test_a_request_to_a_busy_board_overruns_and_one_that_waits_does_not(echo: Path) -> None:
    with running(echo) as (mcu, line):
        assert line.read(6) == b"hello\n"
        line.write(b"b")  # busy for 46 ms of the chip's time
        overruns, seen = divmod(int.from_bytes(line.read(4), "little"), 1 << 16)
        assert (overruns, seen) == (0, 0)
        assert mcu.all_findings() == ()
        line.write(b"b" + bytes(400))  # 35 ms on the wire
        overruns, seen = divmod(int.from_bytes(line.read(4), "little"), 1 << 16)
        assert (overruns, seen) == (1, 1)
        (found,) = mcu.all_findings()
        assert found.startswith("USART3: 399 bytes lost")
        line.write(b"a")  # and the receiver goes on
        assert line.read(1) == b"b"


def test_watching_less_closely_after_a_while_changes_nothing_but_the_speed(
    echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinymbn.emulators.virtual_mcu.mcu._STRICT_INSTRUCTIONS", 5_000_000)
    with running(echo) as (mcu, line):
        assert line.read(6) == b"hello\n"
        counts = []
        for _ in range(8):
            line.write(b"t")
            counts.append(int.from_bytes(line.read(4), "little"))
        assert not mcu._counter.is_strict
        assert len(set(counts)) == 1
        line.write(b"x")
        assert line.read(6) == b"hello\n"
        assert "fault: write of 0x12345678" in mcu.all_findings()[0]


def test_a_port_at_another_rate_hears_garbage(echo: Path) -> None:
    with running(echo, baud=230400) as (mcu, line):
        line.timeout = 0.3
        assert line.read(6) != b"hello\n"
        assert "runs at 115139 baud, the computer's port at 230400: -50.0 %" in mcu.all_findings()[0]


def test_the_discovery_board_comes_up_on_its_own_oscillator_and_pins(tmp_path: Path) -> None:
    with running(build_echo(load_board("stm32f746g-disco"), tmp_path), "stm32f746g-disco") as (mcu, line):
        assert line.read(6) == b"hello\n"
        line.write(b"a")
        assert line.read(1) == b"b"
        assert mcu.all_findings() == ()


@pytest.mark.parametrize("byte", [0x00, 0x55, 0x96, 0xFF])
def test_a_byte_survives_a_rate_that_is_four_percent_off_and_not_eight(byte: int) -> None:
    assert _sampled(byte, 115200, 115200 * 1.04) == (byte, False)
    assert _sampled(byte, 115200, 115200 * 0.96) == (byte, False)
    wrong = [_sampled(byte, 115200, 115200 * factor) != (byte, False) for factor in (0.92, 1.08)]
    assert any(wrong) or byte == 0xFF  # all ones after the start bit look the same at any rate
