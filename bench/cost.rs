//! What work costs where others work too: CPU time of the thread, ways in turn, the least of many rounds. What
//! disturbs a round only ever adds to it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long one way works in one round.
const SAMPLE: Duration = Duration::from_millis(2);

/// One way to do the work.
pub struct Way<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + 'a>,
}

impl<'a> Way<'a> {
    pub fn new(name: &'static str, work: impl FnMut() + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

/// CPU time of this thread.
pub fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("time goes forward")
}

fn time(work: &mut dyn FnMut(), times: u32) -> Duration {
    let start = cpu();
    (0..times).for_each(|_| work());
    cpu() - start
}

/// Prints the least time of each way, and how it stands to the first one.
pub fn compare(title: &str, rounds: usize, mut ways: Vec<Way<'_>>) {
    let mut times: Vec<u32> = Vec::new();
    for way in &mut ways {
        let once = time(&mut *way.work, 1).min(time(&mut *way.work, 1));
        let times_of = SAMPLE.as_nanos() / once.as_nanos().max(1);
        times.push(u32::try_from(times_of).unwrap_or(u32::MAX).max(1));
    }
    let mut least = vec![Duration::MAX; ways.len()];
    for _ in 0..rounds {
        for ((way, times), least) in ways.iter_mut().zip(&times).zip(&mut least) {
            *least = (*least).min(time(&mut *way.work, *times) / *times);
        }
    }
    println!("{title}");
    for (way, took) in ways.iter().zip(&least) {
        let ratio = took.as_secs_f64() / least[0].as_secs_f64();
        println!("  {:<34} {:>10}   {ratio:.3}", way.name, format!("{took:.2?}"));
    }
}
