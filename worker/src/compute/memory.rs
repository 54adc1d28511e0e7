//! The most memory that this process held while it did something, as Linux counts it.

use std::io::Write;

use tch::Device;

/// What `/proc/self/clear_refs` takes for "forget the peak of the resident memory".
const FORGET_PEAK: &[u8] = b"5";

/// Watches the peak of the resident memory.
pub(super) struct PeakMemory {
    is_counting: bool,
}

impl PeakMemory {
    /// Counts from now on. Nothing is counted for work on an accelerator, whose memory the system does not know.
    pub(super) fn from_now(device: Device) -> Self {
        Self { is_counting: device == Device::Cpu && forget_peak().is_ok() }
    }

    /// The peak so far, in bytes; `None` where the system does not tell.
    pub(super) fn bytes(&self) -> Option<u64> {
        let status = self.is_counting.then(|| std::fs::read_to_string("/proc/self/status").ok())??;
        peak_in(&status)
    }
}

fn forget_peak() -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).open("/proc/self/clear_refs")?.write_all(FORGET_PEAK)
}

/// The peak that a process's `status` file tells, in bytes.
fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes_and_never_guessed() {
        let status = "Name:\tworker\nVmPeak:\t  900000 kB\nVmHWM:\t  123456 kB\nVmRSS:\t  100000 kB\n";
        assert_eq!(peak_in(status), Some(123_456 * 1024));
        for other in ["", "VmRSS:\t 1 kB\n", "VmHWM:\t 1 MB\n", "VmHWM:\t x kB\n"] {
            assert_eq!(peak_in(other), None, "{other:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_given_back_before_is_not_counted() {
        const LARGE: usize = 256 << 20;
        let before = PeakMemory::from_now(Device::Cpu);
        let used = vec![1_u8; LARGE];
        assert!(used.iter().map(|byte| u64::from(*byte)).sum::<u64>() == LARGE as u64);
        drop(used);
        let high = before.bytes();
        let low = PeakMemory::from_now(Device::Cpu).bytes();
        // Where the system does not let a process forget its peak, there is no figure to hold to this.
        if let (Some(high), Some(low)) = (high, low) {
            assert!(low > 0 && high >= low + LARGE as u64 / 2, "{high} {low}");
        }
    }

    #[test]
    fn an_accelerators_memory_is_not_taken_for_the_processs() {
        assert_eq!(PeakMemory::from_now(Device::Cuda(0)).bytes(), None);
    }
}
