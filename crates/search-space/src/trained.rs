//! The form of a cell that says which function is trained.
//!
//! A node is a sum of *terms*: the input, or the result of one particular convolution, each pooled zero to three times.
//! A skip adds the terms of its source, a pool adds them pooled once more (averaging is linear), `none` adds nothing.
//! Unlike in an expression, two convolutions with the same input stay two, and one whose result is used twice stays
//! one. What is left is rewritten where training cannot tell the difference:
//!
//! * a convolution of an always-zero node is a bias: batch normalisation of zeros gives its bias, whatever the kernel,
//!   and its weights get no gradient. Pooling does not change a bias, as the padding is not counted;
//! * a convolution that nothing uses is left out;
//! * the names of the convolutions do not matter: they are named in the order of their traits (see `Traits`), and where
//!   traits are equal the form is the smallest over all ways to name them;
//! * a cell whose output does not depend on its input is zero.
//!
//! Sums are compared as real numbers: members of a class may add in another order and so differ by rounding.
//!
//! ```text
//!   |skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|
//!   a=nor_conv_3x3(0);0+pool(a)
//! ```

use crate::canonical::ZERO;
use crate::cell::{Cell, EDGE_COUNT, incoming};
use crate::operation::Operation;

/// What a term stems from: 0 is the cell's input, 1 + n the convolution n.
const SOURCES: usize = 1 + EDGE_COUNT;

/// A pool for each edge of the longest path, and none.
const DEPTHS: usize = 4;

/// `sum[source][depth]`: how often the source, pooled `depth` times, is in the sum.
type Sum = [[u8; DEPTHS]; SOURCES];

const NOTHING: Sum = [[0; DEPTHS]; SOURCES];

/// What a convolution computes. The order is that of the form's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Convolution {
    /// A convolution of zero.
    Bias,
    /// A convolution of a sum that is not empty.
    Of(Operation, Sum),
}

/// What does not depend on the names of other convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    /// `None` for a bias.
    operation: Operation,
    /// How often the cell's input, by depth, is in the convolution's.
    of_input: [u8; DEPTHS],
    /// How often the convolution, by depth, is in the output.
    in_output: [u8; DEPTHS],
}

/// The convolutions that the output uses, and the output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    convolutions: Vec<Convolution>,
    output: Sum,
}

/// The form as a text.
pub(crate) fn form(cell: Cell) -> String {
    if cell.is_always_zero() {
        return ZERO.to_owned();
    }
    let function = Function::of(cell).used();
    function
        .namings()
        .into_iter()
        .map(|names| function.renamed(&names))
        .min()
        .expect("even no convolutions have one order")
        .to_string()
}

impl Function {
    /// The function with all the cell's convolutions, in the order of its edges.
    fn of(cell: Cell) -> Self {
        let operations = cell.operations();
        let mut convolutions = Vec::new();
        let mut nodes = [NOTHING; 4];
        nodes[0][0][0] = 1;
        for target in 1..4 {
            for (edge, source) in incoming(target) {
                let input = nodes[source];
                match operations[edge] {
                    Operation::None => {}
                    Operation::SkipConnect => add(&mut nodes[target], &input),
                    Operation::AvgPool3x3 => add(&mut nodes[target], &pooled(&input, &convolutions)),
                    operation => {
                        let convolution = if input == NOTHING {
                            Convolution::Bias
                        } else {
                            Convolution::Of(operation, input)
                        };
                        convolutions.push(convolution);
                        nodes[target][convolutions.len()][0] += 1;
                    }
                }
            }
        }
        Self { convolutions, output: nodes[3] }
    }

    /// Without the convolutions that the output does not use.
    fn used(&self) -> Self {
        let mut used = self.mentions(&self.output);
        // A convolution reads earlier ones only, so one pass from the last to the first finds all.
        for number in (0..self.convolutions.len()).rev() {
            if let (true, Convolution::Of(_, input)) = (used[number], &self.convolutions[number]) {
                for (earlier, mentioned) in self.mentions(input).into_iter().enumerate() {
                    used[earlier] |= mentioned;
                }
            }
        }
        let kept: Vec<usize> = (0..self.convolutions.len()).filter(|number| used[*number]).collect();
        self.renamed(&kept)
    }

    /// Which convolutions occur in `sum`.
    fn mentions(&self, sum: &Sum) -> Vec<bool> {
        (0..self.convolutions.len()).map(|number| sum[1 + number] != [0; DEPTHS]).collect()
    }

    /// The function whose convolution n is this one's convolution `names[n]`. All that are used must be named.
    fn renamed(&self, names: &[usize]) -> Self {
        let rename = |sum: &Sum| {
            let mut renamed = NOTHING;
            renamed[0] = sum[0];
            for (new, old) in names.iter().enumerate() {
                renamed[1 + new] = sum[1 + old];
            }
            renamed
        };
        let convolutions = names
            .iter()
            .map(|old| match &self.convolutions[*old] {
                Convolution::Bias => Convolution::Bias,
                Convolution::Of(operation, input) => Convolution::Of(*operation, rename(input)),
            })
            .collect();
        Self { convolutions, output: rename(&self.output) }
    }

    /// What can be said of convolution `number` without a name.
    fn traits(&self, number: usize) -> Traits {
        let (operation, of_input) = match self.convolutions[number] {
            Convolution::Bias => (Operation::None, [0; DEPTHS]),
            Convolution::Of(operation, input) => (operation, input[0]),
        };
        Traits { operation, of_input, in_output: self.output[1 + number] }
    }

    /// All orders of the convolutions by ascending traits. Hardly ever more than a few: without the traits there would
    /// be up to 720.
    fn namings(&self) -> Vec<Vec<usize>> {
        let traits: Vec<Traits> = (0..self.convolutions.len()).map(|number| self.traits(number)).collect();
        let mut sorted = traits.clone();
        sorted.sort_unstable();
        let mut namings = vec![Vec::new()];
        for next in sorted {
            let mut longer = Vec::new();
            for naming in namings {
                for number in (0..traits.len()).filter(|number| traits[*number] == next) {
                    if !naming.contains(&number) {
                        longer.push([naming.as_slice(), &[number]].concat());
                    }
                }
            }
            namings = longer;
        }
        namings
    }
}

fn add(sum: &mut Sum, terms: &Sum) {
    for (count, more) in sum.iter_mut().flatten().zip(terms.iter().flatten()) {
        *count += more;
    }
}

fn pooled(sum: &Sum, convolutions: &[Convolution]) -> Sum {
    let mut pooled = NOTHING;
    for (source, counts) in sum.iter().enumerate() {
        if source > 0 && convolutions.get(source - 1) == Some(&Convolution::Bias) {
            pooled[source] = *counts;
        } else {
            // The last depth is empty: a path has three edges, so what is pooled here was pooled twice at most.
            pooled[source][1..].copy_from_slice(&counts[..DEPTHS - 1]);
        }
    }
    pooled
}

impl std::fmt::Display for Function {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, convolution) in self.convolutions.iter().enumerate() {
            match convolution {
                Convolution::Bias => write!(out, "{}=bias;", name(1 + number))?,
                Convolution::Of(operation, input) => {
                    write!(out, "{}={operation}({});", name(1 + number), text(input))?;
                }
            }
        }
        out.write_str(&text(&self.output))
    }
}

/// `0` for the input, then `a`, `b`, ….
fn name(source: usize) -> char {
    ['0', 'a', 'b', 'c', 'd', 'e', 'f'][source]
}

fn text(sum: &Sum) -> String {
    let mut terms = Vec::new();
    for (source, counts) in sum.iter().enumerate() {
        for (depth, count) in counts.iter().enumerate() {
            terms.extend(
                (0..*count)
                    .map(|_| format!("{}{}{}", "pool(".repeat(depth), name(source), ")".repeat(depth))),
            );
        }
    }
    terms.join("+")
}
