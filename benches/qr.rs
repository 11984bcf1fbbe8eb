//! The matrix of a code at each level of instructions and by the `qrcode` crate, and the whole of a cold refresh's body.

mod support;

use std::time::Instant;

use onecode::code::base45;
use onecode::code::claims::{CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
use onecode::code::keyring::Keyring;
use onecode::code::payload::{self, PAYLOAD_BYTES_MAX};
use onecode::code::qr::{MATRIX_CHARS, Matrix, Painter, Symbol};
use onecode::sys::simd::Level;
use onecode::words::{ResidentNumber, Status};
use qrcode::bits::Bits;
use qrcode::canvas::{Canvas, MaskPattern};
use qrcode::ec::construct_codewords;
use qrcode::{Color, EcLevel, Version};
use support::Bench;

const NOW: u32 = 1_780_000_000;
/// So many that no branch predictor knows them by heart.
const CODES: usize = 1_024;

fn request(resident: usize) -> CodeRequest {
    let resident = ResidentNumber(resident as u64);
    CodeRequest { resident, version: 1, status: Status::Green, iat: NOW, exp: NOW + 120, test: false }
}

fn unmasked(text: &[u8]) -> Canvas {
    let version = Version::Normal(8);
    let mut bits = Bits::new(version);
    bits.push_alphanumeric_data(text).unwrap();
    bits.push_terminator(EcLevel::M).unwrap();
    let (data, correction) = construct_codewords(&bits.into_bytes(), version, EcLevel::M).unwrap();
    let mut canvas = Canvas::new(version, EcLevel::M);
    canvas.draw_all_functional_patterns();
    canvas.draw_data(&data, &correction);
    canvas
}

fn by_the_crate(text: &[u8]) -> Vec<Color> {
    let mut canvas = unmasked(text);
    canvas.apply_mask(MaskPattern::LargeCheckerboard);
    canvas.into_colors()
}

/// The whole symbol of a text.
fn symbol_of(text: &[u8]) -> Symbol {
    let mut symbol = Symbol::begin(text.len());
    symbol.push_text(text).expect("alphanumeric");
    symbol.close();
    symbol
}

fn main() {
    let bench = Bench::from_arguments();
    let start = Instant::now();
    let painter = Painter::default();
    let made = start.elapsed();
    println!("the tables were made in {:.2} ms", made.as_secs_f64() * 1e3);

    let keyring = Keyring::generate(NOW.into(), |bytes| getrandom::fill(bytes).unwrap());
    let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).unwrap();
    let codes: Vec<CodeBuffer> = (0..CODES)
        .map(|resident| {
            let mut code = CodeBuffer::default();
            issuer.write(&request(resident), &issuer.sign(&request(resident)), &mut code);
            code
        })
        .collect();
    let code = |call: usize| &codes[call % CODES];

    for level in Level::all() {
        let painter = Painter::at(level);
        let mut matrix = Matrix::blank();
        bench.case(&format!("matrix of a code, {level:?}"), |call| {
            painter.paint(&code(call).symbol, &mut matrix);
            matrix.bits()[150]
        });
        bench.case(&format!("matrix of any text, {level:?}"), |call| {
            painter.paint(&symbol_of(code(call).as_bytes()), &mut matrix);
            matrix.bits()[150]
        });
    }
    bench.case("matrix, the crate with our mask", |call| by_the_crate(code(call).as_bytes()));
    bench.case("matrix, the crate choosing the mask", |call| {
        unmasked(code(call).as_bytes()).apply_best_mask().into_colors()
    });

    let mut matrix = Matrix::blank();
    painter.paint(&code(0).symbol, &mut matrix);
    let mut chars = [0; MATRIX_CHARS];
    bench.case("base64 of a matrix", |_| matrix.base64(&mut chars));

    // Of the 133 bytes of a code, 101 are not known beforehand.
    let mut bytes = [[0; 101]; 64];
    bytes.iter_mut().for_each(|bytes| getrandom::fill(bytes).unwrap());
    let mut text = [0; 160];
    bench.case("Base45, text alone", |call| base45::encode(&bytes[call % 64], &mut text));
    let begun = Symbol::begin(204);
    bench.case("Base45, text and symbol", |call| {
        let mut symbol = begun;
        symbol.push_base45(&bytes[call % 64], &mut text);
        symbol.close();
        symbol
    });

    let mut body = [0; PAYLOAD_BYTES_MAX];
    let mut write =
        |code: &CodeBuffer, matrix: &Matrix| payload::write(code.as_str(), &request(5), NOW + 45, matrix, &mut body);
    bench.case("body of a refresh", |call| write(code(call), &matrix));
    let mut issued = CodeBuffer::default();
    bench.case("code, signature included", |call| {
        issuer.write(&request(call), &issuer.sign(&request(call)), &mut issued)
    });
    bench.case("cold refresh: code, matrix, body", |call| {
        issuer.write(&request(call), &issuer.sign(&request(call)), &mut issued);
        painter.paint(&issued.symbol, &mut matrix);
        write(&issued, &matrix)
    });
}
