//! Generated pictures in the IDX and CIFAR forms: shapes that a small network learns to tell apart.

/// Side of the pictures in pixels.
const SIDE: usize = 12;

/// A bar whose angle and place depend on the class, with noise that depends on picture and pixel.
fn pixel(class: usize, picture: usize, x: usize, y: usize) -> u8 {
    let shift = picture % 3;
    let on = match class % 5 {
        0 => y == 3 + shift || y == 4 + shift,
        1 => x == 3 + shift || x == 4 + shift,
        2 => x == y || x == y + 1,
        3 => x + y == 8 + shift || x + y == 9 + shift,
        _ => (3..9).contains(&x) && (3..9).contains(&y),
    };
    let inverted = class >= 5;
    let noise = ((picture * 7919 + x * 131 + y * 37 + class * 17) % 53) as u8;
    if on == inverted { 30 + noise } else { 180 + noise }
}

/// `per_class` pictures of each of `classes` classes, interleaved, as an IDX file of unsigned bytes.
pub fn idx_images(classes: usize, per_class: usize) -> Vec<u8> {
    let count = (classes * per_class) as u32;
    let mut file = vec![0, 0, 8, 3];
    for length in [count, SIDE as u32, SIDE as u32] {
        file.extend(length.to_be_bytes());
    }
    for number in 0..classes * per_class {
        let (class, picture) = (number % classes, number / classes);
        for y in 0..SIDE {
            file.extend((0..SIDE).map(|x| pixel(class, picture, x, y)));
        }
    }
    file
}

/// The labels of [`idx_images`].
pub fn idx_labels(classes: usize, per_class: usize) -> Vec<u8> {
    let count = (classes * per_class) as u32;
    let mut file = vec![0, 0, 8, 1];
    file.extend(count.to_be_bytes());
    file.extend((0..classes * per_class).map(|number| (number % classes) as u8));
    file
}

/// Pictures `numbers` of each of `classes` classes as CIFAR-10 records: one label byte, then three planes of 32 x 32.
pub fn cifar_records(classes: usize, numbers: std::ops::Range<usize>) -> Vec<u8> {
    const LARGE: usize = 32;
    let mut file = Vec::new();
    for (picture, class) in numbers.flat_map(|picture| (0..classes).map(move |class| (picture, class))) {
        file.push(class as u8);
        for _plane in 0..3 {
            for y in 0..LARGE {
                file.extend((0..LARGE).map(|x| pixel(class, picture, x * SIDE / LARGE, y * SIDE / LARGE)));
            }
        }
    }
    file
}
