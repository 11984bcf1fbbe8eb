//! The forms of a symbol for print and kiosks. They are drawn off the hot path, and allocate.

use super::{Matrix, SIZE};

/// ISO/IEC 18004 §6.3.8: at least four modules of white on every side.
const QUIET_MODULES: usize = 4;

/// The symbol as an SVG picture: one path on white, with its quiet zone.
pub fn svg(matrix: &Matrix) -> Vec<u8> {
    let side = SIZE + 2 * QUIET_MODULES;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\""
    );
    for y in 0..SIZE {
        let mut x = 0;
        while x < SIZE {
            let run = (x..SIZE).take_while(|x| matrix.is_dark(*x, y)).count();
            if run > 0 {
                svg += &format!("M{} {}h{run}v1h-{run}z", x + QUIET_MODULES, y + QUIET_MODULES);
            }
            x += run + 1;
        }
    }
    svg += "\"/></svg>\n";
    svg.into_bytes()
}

/// The symbol as a PNG picture: black and white, 8 pixels a module (39 mm at 300 dpi), with its quiet zone.
pub fn png(matrix: &Matrix) -> Vec<u8> {
    let modules = SIZE + 2 * QUIET_MODULES;
    // A module is as wide as a byte has bits, so each is one byte of a line: 0 black, 255 white.
    let mut pixels = Vec::with_capacity(modules * modules * 8);
    for y in 0..modules {
        let dark =
            |x: usize| x >= QUIET_MODULES && y >= QUIET_MODULES && matrix.is_dark(x - QUIET_MODULES, y - QUIET_MODULES);
        let line: Vec<u8> = (0..modules).map(|x| if dark(x) { 0 } else { 0xff }).collect();
        pixels.extend(line.repeat(8));
    }
    let side = u32::try_from(modules * 8).expect("456 pixels");
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, side, side);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_depth(::png::BitDepth::One);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .expect("a Vec takes every write, and the pixels fill the picture");
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::claims::tests::some_code;
    use crate::code::qr::Painter;

    #[test]
    fn the_printed_forms_show_every_module() {
        let mut matrix = Matrix::blank();
        Painter::default().paint(&some_code(2).symbol, &mut matrix);
        let file = png(&matrix);
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let svg = String::from_utf8(svg(&matrix)).unwrap();
        let mut drawn = 0;
        for y in 0..SIZE {
            for x in 0..SIZE {
                assert_eq!(pixels[((y + 4) * 8 + 3) * 57 + x + 4], if matrix.is_dark(x, y) { 0 } else { 0xff });
                drawn += usize::from(matrix.is_dark(x, y));
            }
        }
        assert_eq!(pixels[..4 * 8 * 57], [0xff; 4 * 8 * 57]);
        let runs = svg.split('h').skip(1).filter_map(|part| part.split_once("v1")).map(|(run, _)| run);
        assert_eq!(runs.map(|run| run.parse::<usize>().unwrap()).sum::<usize>(), drawn);
    }
}
